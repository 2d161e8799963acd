// OpenPGP.js and PKI.js behind a bridge (see ../bridged.py).  Its argument is the folder node_modules.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { webcrypto } from "node:crypto";
import { readFileSync } from "node:fs";

globalThis.crypto ??= webcrypto; // Node before 19
const modules = process.argv[2];
const require = createRequire(modules + "/");

const readers = {
  async openpgp(secret, published, message) {
    const openpgp = await import(`${modules}/openpgp/dist/openpgp.mjs`); // as browsers get it
    const decryptionKeys = await openpgp.readPrivateKey({ binaryKey: secret });
    const parsed = await openpgp.readMessage({ armoredMessage: message.toString("latin1") });
    return (await openpgp.decrypt({ message: parsed, decryptionKeys, format: "binary" })).data;
  },

  async pkijs(secret, published, message) {
    const pkijs = require("pkijs");
    pkijs.setEngine("node", new pkijs.CryptoEngine({ name: "node", crypto: webcrypto }));
    const exact = (octets) => new Uint8Array(octets).buffer;
    const envelope = pkijs.ContentInfo.fromBER(exact(message));
    if (envelope.contentType !== "1.2.840.113549.1.7.3") throw new Error(`content type ${envelope.contentType}`);
    const enveloped = new pkijs.EnvelopedData({ schema: envelope.content });
    const certificate = pkijs.Certificate.fromBER(exact(published));
    let reason;
    for (let index = 0; index < enveloped.recipientInfos.length; index++) {
      try {
        return await enveloped.decrypt(index, {
          recipientCertificate: certificate,
          recipientPrivateKey: exact(secret),
        });
      } catch (error) {
        reason = error; // another recipient's, perhaps
      }
    }
    throw reason;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [kind, ...words] = line.split(" ");
  let answer;
  try {
    if (kind === "version") {
      answer = "+" + JSON.parse(readFileSync(`${modules}/${words[0]}/package.json`)).version;
    } else {
      const opened = await readers[kind](...words.map((word) => Buffer.from(word, "base64")));
      answer = "+" + Buffer.from(opened).toString("base64");
    }
  } catch (error) {
    answer = "-" + String(error).replaceAll("\n", " / ");
  }
  process.stdout.write(answer + "\n");
}
