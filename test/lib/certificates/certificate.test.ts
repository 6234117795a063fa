import { generateKeyPairSync, X509Certificate } from "node:crypto";
import { expect, test } from "vitest";
import { signCertificate } from "../../../src/lib/certificates/certificate.ts";
import { P256PrivateKey } from "../../../src/lib/crypto.ts";

const key = new P256PrivateKey(generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey);
const subject = { unit: "c1", name: "n1" };

test("clients that dial an address find it among the addresses of a certificate, and DNS names among its names", () => {
  const certificate = new X509Certificate(
    signCertificate(
      {
        kind: "leaf",
        subject,
        publicKey: key.publicKey,
        serial: Uint8Array.of(1),
        notBeforeWallMs: 0,
        notAfterWallMs: 86_400_000,
        uri: "spiffe://a/waymark/cluster/c1/node/n1",
        dnsNames: ["a.example", "10.0.0.1", "fd00::1", "1.example"],
      },
      { subject, key },
    ),
  );
  expect(["10.0.0.1", "fd00::1", "10.0.0.2"].map((address) => certificate.checkIP(address) !== undefined)).toEqual([true, true, false]);
  expect(["a.example", "1.example", "10.0.0.1"].map((name) => certificate.checkHost(name) !== undefined)).toEqual([true, true, false]);
});
