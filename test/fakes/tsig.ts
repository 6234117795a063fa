/** Signs DNS questions (TSIG, RFC 8945), by other code than that of the gateway. */
import { createHmac } from "node:crypto";

export const SECRET = Buffer.from("0123456789abcdef");
export const NOW = 1_800_000_000;

export const wire = (name: string) =>
  Buffer.concat([...name.split(".").map((label) => Buffer.from(`${String.fromCharCode(label.length)}${label}`)), Buffer.of(0)]);
export const u16 = (value: number) => Buffer.of(value >> 8, value & 255);
const u48 = (value: number) =>
  Buffer.concat([u16(Math.floor(value / 2 ** 32)), u16(Math.floor(value / 65_536) % 65_536), u16(value % 65_536)]);

export interface Signer {
  readonly key?: string;
  readonly algorithm?: string;
  readonly secret?: Buffer;
  readonly atSeconds?: number;
  readonly macBytes?: number;
  readonly fudgeSeconds?: number;
}

export function variables({ key, algorithm, atSeconds, fudgeSeconds }: Required<Signer>, error: number, other: Buffer): Buffer {
  return Buffer.concat([
    wire(key),
    u16(255),
    u16(0),
    u16(0),
    wire(algorithm),
    u48(atSeconds),
    u16(fudgeSeconds),
    u16(error),
    u16(other.length),
    other,
  ]);
}

export function complete(signer: Signer): Required<Signer> {
  return { key: "k.example", algorithm: "hmac-sha256", secret: SECRET, atSeconds: NOW, macBytes: 32, fudgeSeconds: 300, ...signer };
}

export const hmac = ({ algorithm, secret }: Required<Signer>, ...parts: readonly Buffer[]) =>
  createHmac(algorithm.slice(5), secret).update(Buffer.concat(parts)).digest();

/** The query with its signature, and the signature. */
export function signedBy(some: Signer, query: Uint8Array): { readonly bytes: Buffer; readonly mac: Buffer } {
  const signer = complete(some);
  const plain = Buffer.from(query);
  const mac = hmac(signer, plain, variables(signer, 0, Buffer.alloc(0))).subarray(0, signer.macBytes);
  const data = Buffer.concat([
    wire(signer.algorithm),
    u48(signer.atSeconds),
    u16(signer.fudgeSeconds),
    u16(mac.length),
    mac,
    plain.subarray(0, 2),
    u16(0),
    u16(0),
  ]);
  const bytes = Buffer.concat([plain, wire(signer.key), u16(250), u16(255), u16(0), u16(0), u16(data.length), data]);
  bytes.writeUInt16BE(plain.readUInt16BE(10) + 1, 10);
  return { bytes, mac };
}
