// BouncyCastle and PGPainless behind a bridge (see ../bridged.py); JavaMail takes the messages apart.
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.security.KeyFactory;
import java.security.PrivateKey;
import java.security.Security;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import java.util.Properties;
import javax.mail.Multipart;
import javax.mail.Session;
import javax.mail.internet.ContentType;
import javax.mail.internet.MimeMessage;
import org.bouncycastle.asn1.pkcs.PrivateKeyInfo;
import org.bouncycastle.cert.X509CertificateHolder;
import org.bouncycastle.cms.CMSAuthEnvelopedData;
import org.bouncycastle.cms.CMSEnvelopedData;
import org.bouncycastle.cms.Recipient;
import org.bouncycastle.cms.RecipientInformation;
import org.bouncycastle.cms.RecipientInformationStore;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.pgpainless.sop.SOPImpl;

public class Bridge {
    public static void main(String[] arguments) throws Exception {
        Security.addProvider(new BouncyCastleProvider());
        PrintStream out = new PrintStream(System.out, false, "US-ASCII");
        System.setOut(System.err);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, "US-ASCII"));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] words = line.split(" ");
            try {
                out.println("+" + answer(words));
            } catch (Throwable error) {
                String said = error + (error.getCause() == null ? "" : " (" + error.getCause() + ")");
                out.println("-" + said.replaceAll("\\s+", " ").replaceAll("[^ -~]", "?"));
            }
            out.flush();
        }
    }

    private static String answer(String[] words) throws Exception {
        byte[] secret = decoded(words[1]), published = decoded(words[2]), message = decoded(words[3]);
        byte[] opened = words[0].equals("cms") ? cms(secret, published, message) : pgpainless(secret, message);
        return Base64.getEncoder().encodeToString(opened);
    }

    private static byte[] decoded(String word) {
        return Base64.getDecoder().decode(word);
    }

    private static MimeMessage parsed(byte[] message) throws Exception {
        return new MimeMessage(Session.getInstance(new Properties()), new ByteArrayInputStream(message));
    }

    private static byte[] pgpainless(byte[] secret, byte[] message) throws Exception {
        Multipart parts = (Multipart) parsed(message).getContent();
        if (parts.getCount() != 2 || !parts.getBodyPart(0).isMimeType("application/pgp-encrypted")) {
            throw new IllegalArgumentException("no PGP/MIME message: " + parts.getContentType());
        }
        InputStream armour = parts.getBodyPart(1).getInputStream();
        return new SOPImpl().decrypt().withKey(new ByteArrayInputStream(secret))
            .ciphertext(armour).toByteArrayAndResult().getBytes();
    }

    private static byte[] cms(byte[] secret, byte[] published, byte[] message) throws Exception {
        MimeMessage parsed = parsed(message);
        ContentType type = new ContentType(parsed.getContentType());
        if (!type.match("application/pkcs7-mime")) {
            throw new IllegalArgumentException("no S/MIME message: " + type);
        }
        byte[] der = parsed.getInputStream().readAllBytes();
        boolean authenticated = "authEnveloped-data".equals(type.getParameter("smime-type"));
        RecipientInformationStore recipients = authenticated
            ? new CMSAuthEnvelopedData(der).getRecipientInfos()
            : new CMSEnvelopedData(der).getRecipientInfos();
        X509CertificateHolder certificate = new X509CertificateHolder(published);
        String algorithm =
            PrivateKeyInfo.getInstance(secret).getPrivateKeyAlgorithm().getAlgorithm().getId();
        PrivateKey key = KeyFactory.getInstance(algorithm, "BC").generatePrivate(new PKCS8EncodedKeySpec(secret));
        for (RecipientInformation recipient : recipients.getRecipients()) {
            if (recipient.getRID().match(certificate)) {
                return recipient.getContent(by(key, recipient, authenticated));
            }
        }
        throw new IllegalArgumentException("no recipient has this certificate");
    }

    // By name, since what one version of the library has another lacks.
    private static Recipient by(PrivateKey key, RecipientInformation recipient, boolean authenticated)
            throws Exception {
        String kind = recipient.getClass().getSimpleName().replace("RecipientInformation", "");
        String name = "Jce" + kind + (authenticated ? "Auth" : "") + "EnvelopedRecipient";
        Class<?> chosen = Class.forName("org.bouncycastle.cms.jcajce." + name);
        Object made = chosen.getConstructor(PrivateKey.class).newInstance(key);
        return (Recipient) chosen.getMethod("setProvider", String.class).invoke(made, "BC");
    }
}
