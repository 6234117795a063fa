/**
 * Server cookies (RFC 7873) in the interoperable format of RFC 9018: version, reserved bits, timestamp, and a hash of these, the client cookie and the client
 * address. A client that returns a valid cookie has proved that it can receive packets at its address.
 */
import { type IpAddress, parseAddress, withoutMapping } from "../../lib/addresses.ts";
import { type SipKey, sipHash24, sipKeyOf } from "./siphash.ts";

export const CLIENT_COOKIE_BYTES = 8;
export const SERVER_COOKIE_BYTES = 16;
export const COOKIE_SECRET_BYTES = 16;
const VERSION = 1;
const HASH_AT = 8;
/** How long a cookie is valid, how far its timestamp may be in the future, and when it is renewed (RFC 9018, 4.3). */
const MAX_AGE_S = 3600;
const MAX_AHEAD_S = 300;
const RENEWED_AFTER_S = 1800;

export class ServerCookies {
  #keys: readonly SipKey[] = [];
  /** The hash input: the client cookie, the server cookie without its hash, and the client address, for which 16 bytes are reserved. */
  readonly #message = new Uint8Array(CLIENT_COOKIE_BYTES + HASH_AT + 16);
  readonly #hash = new Uint8Array(8);
  /** The last parsed address, which is cached because many queries come from the same address. */
  #addressText = "";
  #address: IpAddress = new Uint8Array();

  /** `secrets` contains one or two secrets of 16 bytes each. The first secret is used for new cookies. */
  constructor(secrets: readonly Uint8Array[]) {
    this.replace(secrets);
  }

  replace(secrets: readonly Uint8Array[]): void {
    this.#keys = secrets.map(sipKeyOf);
  }

  /**
   * Returns whether the server cookie of this length, which follows the client cookie at `at`, was created with our secrets for this address and has not
   * expired.
   */
  isValid(bytes: Uint8Array, at: number, lengthBytes: number, address: string, wallSeconds: number): boolean {
    const serverAt = at + CLIENT_COOKIE_BYTES;
    if (lengthBytes !== CLIENT_COOKIE_BYTES + SERVER_COOKIE_BYTES || bytes[serverAt] !== VERSION) return false;
    // This is serial number arithmetic (RFC 1982), as RFC 9018 requires.
    const ageS = ageOf(bytes, serverAt, wallSeconds);
    if (ageS > MAX_AGE_S || ageS < -MAX_AHEAD_S) return false;
    const length = this.#begin(bytes, at, address);
    for (let i = 0; i < HASH_AT; i++) this.#message[CLIENT_COOKIE_BYTES + i] = bytes[serverAt + i] ?? 0;
    for (const key of this.#keys) if (this.#isHash(length, key, bytes, serverAt + HASH_AT)) return true;
    return false;
  }

  /** Writes the server cookie for the client cookie at `at` to `out`. A valid and recent cookie is reused. */
  write(bytes: Uint8Array, at: number, isValid: boolean, address: string, wallSeconds: number, out: Uint8Array, outAt: number): void {
    const serverAt = at + CLIENT_COOKIE_BYTES;
    if (isValid && ageOf(bytes, serverAt, wallSeconds) < RENEWED_AFTER_S && ageOf(bytes, serverAt, wallSeconds) >= 0) {
      for (let i = 0; i < SERVER_COOKIE_BYTES; i++) out[outAt + i] = bytes[serverAt + i] ?? 0;
      return;
    }
    const length = this.#begin(bytes, at, address);
    const message = this.#message;
    message[CLIENT_COOKIE_BYTES] = VERSION;
    for (let i = 1; i < 4; i++) message[CLIENT_COOKIE_BYTES + i] = 0;
    for (let i = 0; i < 4; i++) message[CLIENT_COOKIE_BYTES + 4 + i] = wallSeconds >>> (24 - 8 * i);
    const [key] = this.#keys;
    if (key !== undefined) sipHash24(message, length, key, this.#hash);
    for (let i = 0; i < HASH_AT; i++) out[outAt + i] = message[CLIENT_COOKIE_BYTES + i] ?? 0;
    for (let i = 0; i < 8; i++) out[outAt + HASH_AT + i] = this.#hash[i] ?? 0;
  }

  /** Copies the client cookie and address into the hash input. Returns the length of the hash input. */
  #begin(bytes: Uint8Array, at: number, address: string): number {
    if (address !== this.#addressText) {
      this.#address = parseAddress(withoutMapping(address).replace(/%.*$/, "")) ?? new Uint8Array();
      this.#addressText = address;
    }
    for (let i = 0; i < CLIENT_COOKIE_BYTES; i++) this.#message[i] = bytes[at + i] ?? 0;
    this.#message.set(this.#address, CLIENT_COOKIE_BYTES + HASH_AT);
    return CLIENT_COOKIE_BYTES + HASH_AT + this.#address.length;
  }

  #isHash(length: number, key: SipKey, bytes: Uint8Array, at: number): boolean {
    sipHash24(this.#message, length, key, this.#hash);
    // Compares all bytes, so that the timing reveals nothing about the hash.
    let difference = 0;
    for (let i = 0; i < 8; i++) difference |= (this.#hash[i] ?? 0) ^ (bytes[at + i] ?? 0);
    return difference === 0;
  }
}

function ageOf(bytes: Uint8Array, serverAt: number, wallSeconds: number): number {
  let stamp = 0;
  for (let i = 4; i < 8; i++) stamp = (stamp << 8) | (bytes[serverAt + i] ?? 0);
  return (wallSeconds - stamp) | 0;
}

/** Returns the secrets in a file: one or two lines of 32 hexadecimal digits, the secret for new cookies first. Returns undefined for other text. */
export function parseCookieSecrets(text: string): readonly Uint8Array[] | undefined {
  const lines = text.trim().split(/\s*\n\s*/);
  if (lines.length > 2 || !lines.every((line) => /^[0-9a-fA-F]{32}$/.test(line))) return undefined;
  return lines.map((line) => Uint8Array.from({ length: COOKIE_SECRET_BYTES }, (_, i) => Number.parseInt(line.slice(2 * i, 2 * i + 2), 16)));
}
