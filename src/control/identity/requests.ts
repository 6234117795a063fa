/** The requests of newcomers and of holders of a certificate, and the bytes that they sign. */
import type { NameKey } from "./records.ts";

/** A request for a first certificate. */
export interface JoinRequest {
  /** Empty if the attestation replaces it. */
  readonly token: string;
  /** A signed token of an issuer that the join policy names. Empty without one. */
  readonly attestation?: string;
  /** Empty if the token decides the name. */
  readonly name: string;
  readonly publicKey: Uint8Array;
  /** Made with the private key, over `joinBytes`. */
  readonly signature: Uint8Array;
}

/** A request for the next certificate. Both keys sign `renewalBytes`. */
export interface RenewalRequest extends NameKey {
  readonly publicKey: Uint8Array;
  readonly signature: Uint8Array;
  readonly newPublicKey: Uint8Array;
  readonly newSignature: Uint8Array;
}

/** The bytes that a newcomer signs to prove that it has the private key. */
export function joinBytes({ token, name, publicKey }: Pick<JoinRequest, "name" | "publicKey" | "token">): Uint8Array {
  return signedBytes("join", token, name, publicKey);
}

/** The bytes that the current and the next key sign. */
export function renewalBytes(
  clusterId: string,
  { role, name, newPublicKey }: Pick<RenewalRequest, "name" | "newPublicKey" | "role">,
): Uint8Array {
  return signedBytes("renew", `${clusterId}/${role}`, name, newPublicKey);
}

function signedBytes(act: string, first: string, second: string, key: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.from(`waymark identity ${act}\0${first}\0${second}\0`), key]);
}
