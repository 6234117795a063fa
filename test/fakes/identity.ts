/** Roots, issuers and keys in memory, and the signed requests of programs, for tests of the authority of a cluster. */

import { generateKeyPairSync } from "node:crypto";
import { Issuer } from "../../src/control/identity/issuer.ts";
import type { NameKey } from "../../src/control/identity/records.ts";
import type { JoinRequest, RenewalRequest } from "../../src/control/identity/requests.ts";
import { joinBytes, renewalBytes } from "../../src/control/identity/requests.ts";
import { type CertificateFacts, signCertificate } from "../../src/lib/certificates/certificate.ts";
import { issuerKeyOf } from "../../src/lib/certificates/revocations.ts";
import { P256PrivateKey, sha256Hex } from "../../src/lib/crypto.ts";

const DAY_MS = 86_400_000;
export const TRUST_DOMAIN = "waymark.test";

/** A private key on the curve P-256. */
export class TestKey {
  readonly signing: P256PrivateKey;
  readonly pem: string;
  /** SHA-256 of the public key, in hex. */
  readonly digest: string;

  constructor() {
    const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    this.signing = new P256PrivateKey(privateKey);
    this.pem = privateKey.export({ format: "pem", type: "pkcs8" }).toString();
    this.digest = sha256Hex(this.signing.publicKey);
  }

  get publicKey(): Uint8Array {
    return this.signing.publicKey;
  }
}

export type CertificateChoices = Pick<CertificateFacts, "publicKey" | "subject"> & Partial<CertificateFacts>;

/** A certificate of any kind with these choices. It is valid from a day before `wallMs` to a day after it. */
export function certificateOf({ wallMs = Date.now(), ...choices }: CertificateChoices & { readonly wallMs?: number }): CertificateFacts {
  return {
    kind: "leaf",
    serial: Uint8Array.of(0, 0x80, 1),
    notBeforeWallMs: wallMs - DAY_MS,
    notAfterWallMs: wallMs + DAY_MS,
    uri: `spiffe://${TRUST_DOMAIN}`,
    dnsNames: [],
    ...choices,
  };
}

export class TestRoot {
  readonly key = new TestKey();
  readonly subject = { unit: "", name: "root" };
  /** PEM. */
  readonly certificate: string;
  readonly #wallMs: number;

  constructor(wallMs = Date.now()) {
    this.#wallMs = wallMs;
    const { publicKey } = this.key;
    this.certificate = this.sign({ kind: "root", subject: this.subject, publicKey });
  }

  sign(choices: CertificateChoices): string {
    return signCertificate(certificateOf({ wallMs: this.#wallMs, ...choices }), { subject: this.subject, key: this.key.signing });
  }

  /** An issuer with an intermediate of this root, until a day after the root was made. */
  issuer(
    nodeId: string,
    clusterId: string,
    { key = new TestKey(), random = fixedBytes() }: { readonly key?: TestKey; readonly random?: (count: number) => Uint8Array } = {},
  ): Issuer {
    const certificate = this.sign({
      kind: "intermediate",
      subject: { unit: clusterId, name: nodeId, serial: issuerKeyOf(key.publicKey) },
      publicKey: key.publicKey,
    });
    const root = { root: this.certificate, rootDigest: this.key.digest };
    const notAfterWallMs = this.#wallMs + DAY_MS;
    return new Issuer({ trustDomain: TRUST_DOMAIN, clusterId, nodeId, certificate, ...root, key: key.signing, notAfterWallMs, random });
  }
}

/** Different bytes at each call, which are the same in each run. */
export function fixedBytes(): (count: number) => Uint8Array {
  let calls = 0;
  return (count) => {
    const bytes = new Uint8Array(count).fill(7);
    new DataView(bytes.buffer).setUint32(0, ++calls);
    return bytes;
  };
}

/** A request for a first certificate, signed with its key. */
export function joinRequest(token: string, name: string, { publicKey, signing }: TestKey): JoinRequest {
  const asked = { token, name, publicKey };
  return { ...asked, signature: signing.sign(joinBytes(asked)) };
}

/** A request for the next certificate, signed with both keys. */
export function renewalRequest(clusterId: string, { role, name }: NameKey, key: TestKey, next: TestKey): RenewalRequest {
  const asked = { role, name, publicKey: key.publicKey, newPublicKey: next.publicKey };
  const bytes = renewalBytes(clusterId, asked);
  return { ...asked, signature: key.signing.sign(bytes), newSignature: next.signing.sign(bytes) };
}
