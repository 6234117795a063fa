/** An issuer: a node that signs certificates with an intermediate of its own. Its key never leaves the node. */
import { signCertificate } from "../../lib/certificates/certificate.ts";
import { BACKDATE_MS, issuerKeyOf } from "../../lib/certificates/revocations.ts";
import { serverNameOf } from "../../lib/certificates/server-names.ts";
import { type SpiffeIdentity, spiffeIdOf } from "../../lib/certificates/spiffe.ts";
import type { P256PrivateKey } from "../../lib/crypto.ts";

const SERIAL_BYTES = 16;

export interface IssuerFacts {
  readonly trustDomain: string;
  readonly clusterId: string;
  readonly nodeId: string;
  /** The intermediate certificate in PEM. */
  readonly certificate: string;
  /** The root certificate in PEM, and SHA-256 of its public key. */
  readonly root: string;
  readonly rootDigest: string;
  readonly key: P256PrivateKey;
  readonly notAfterWallMs: number;
  readonly random: (count: number) => Uint8Array;
}

/** The holder of a certificate, and its times. */
export interface CertificateTerms extends Pick<SpiffeIdentity, "name" | "role"> {
  /** SubjectPublicKeyInfo in DER. */
  readonly publicKey: Uint8Array;
  readonly dnsNames: readonly string[];
  readonly madeWallMs: number;
  readonly expiresWallMs: number;
}

export class Issuer {
  readonly facts: IssuerFacts;
  /** The id of the issuing key, which is part of the issuer's name in certificates. */
  readonly keyId: string;

  constructor(facts: IssuerFacts) {
    this.facts = facts;
    this.keyId = issuerKeyOf(facts.key.publicKey);
  }

  /** The end of a certificate that is made now. It does not outlive its issuer. */
  expiryOf(madeWallMs: number, ttlMs: number): number {
    return Math.min(madeWallMs + ttlMs, this.facts.notAfterWallMs);
  }

  /** Returns the certificate chain in PEM: the leaf, and the intermediate. */
  certify({ role, name, publicKey, dnsNames, madeWallMs, expiresWallMs }: CertificateTerms): string {
    const { trustDomain, clusterId, nodeId, certificate, key, random } = this.facts;
    const facts = {
      kind: "leaf",
      subject: { unit: clusterId, name },
      publicKey,
      serial: random(SERIAL_BYTES),
      notBeforeWallMs: madeWallMs - BACKDATE_MS,
      notAfterWallMs: expiresWallMs,
      uri: spiffeIdOf({ trustDomain, clusterId, role, name }),
      dnsNames,
    } as const;
    return signCertificate(facts, { subject: { unit: clusterId, name: nodeId, serial: this.keyId }, key }) + certificate;
  }

  /** The DNS name that only issuers have, by which newcomers recognize them. */
  get serverName(): string {
    return serverNameOf(this.facts.clusterId, "issuer");
  }
}
