/** Checks signed answers as a validator does (RFC 4034, 4035), written from the RFCs and without our code. */
import { createPublicKey, generateKeyPairSync, type KeyObject, sign, verify } from "node:crypto";
import { zoneKey } from "../../src/dns/records/dnssec.ts";
import type { ZoneSigningKeys } from "../../src/dns/signing/zone-signer.ts";

export interface WireRecord {
  /** Labels of the owner in lower case, as latin1. */
  readonly owner: string;
  readonly type: number;
  readonly ttl: number;
  /** Canonical. */
  readonly data: Buffer;
}

export interface WireMessage {
  readonly rcode: number;
  readonly flags: number;
  readonly isCut: boolean;
  /** Of EDNS: DO and CO. */
  readonly optFlags: number;
  readonly answers: readonly WireRecord[];
  readonly authority: readonly WireRecord[];
  readonly additional: readonly WireRecord[];
}

export const TYPE = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  PTR: 12,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
  DS: 43,
  RRSIG: 46,
  NSEC: 47,
  DNSKEY: 48,
  CDS: 59,
  CDNSKEY: 60,
} as const;
const NXNAME = 128;
/** Where names are in the data of a type, which are compressed or in capitals. */
const NAMES: Readonly<Record<number, { readonly skip: number; readonly count: number }>> = {
  [TYPE.NS]: { skip: 0, count: 1 },
  [TYPE.CNAME]: { skip: 0, count: 1 },
  [TYPE.PTR]: { skip: 0, count: 1 },
  [TYPE.SOA]: { skip: 0, count: 2 },
  [TYPE.SRV]: { skip: 6, count: 1 },
};

/** Two keys of one file, made anew. */
export class TestKeys implements ZoneSigningKeys {
  version = 0;
  keys: readonly (ReturnType<typeof zoneKey> & { readonly secret: KeyObject })[] = [];
  signCount = 0;

  constructor(count = 1) {
    this.keys = Array.from({ length: count }, () => newKey());
  }

  replace(keys: TestKeys["keys"]): void {
    this.keys = keys;
    this.version += 1;
  }

  sign(index: number, data: Uint8Array): Uint8Array {
    this.signCount += 1;
    const key = this.keys[index];
    if (key === undefined) throw new Error("no such key");
    return sign("sha256", data, { key: key.secret, dsaEncoding: "ieee-p1363" });
  }
}

export function newKey(): TestKeys["keys"][number] {
  const { privateKey: secret } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const { x = "", y = "" } = secret.export({ format: "jwk" });
  return { ...zoneKey(Buffer.concat([Buffer.from(x, "base64url"), Buffer.from(y, "base64url")])), secret };
}

/** A question with DO, and with CO if it is wanted. */
export function signedQuery(name: string, type: number, { isCompactOk = false, sizeBytes = 1232, isDnssecOk = true } = {}): Uint8Array {
  const labels = name === "" ? [] : name.split(".");
  const question = Buffer.concat([
    ...labels.map((label) => Buffer.from([label.length, ...Buffer.from(label, "latin1")])),
    Buffer.from([0]),
  ]);
  const flags = (isDnssecOk ? 0x80 : 0) | (isCompactOk ? 0x40 : 0);
  const opt = [0, 0, 41, sizeBytes >> 8, sizeBytes & 255, 0, 0, flags, 0, 0, 0];
  return Buffer.concat([
    Buffer.from([0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1]),
    question,
    Buffer.from([type >> 8, type & 255, 0, 1]),
    Buffer.from(opt),
  ]);
}

export function readMessage(bytes: Uint8Array): WireMessage {
  const message = Buffer.from(bytes);
  let at = 12;
  if (message.readUInt16BE(4) === 1) at = nameAt(message, at).end + 4;
  const section = (count: number): WireRecord[] =>
    Array.from({ length: count }, () => {
      const owner = nameAt(message, at);
      const type = message.readUInt16BE(owner.end);
      const start = owner.end + 10;
      const end = start + message.readUInt16BE(owner.end + 8);
      const record = {
        owner: lower(owner.wire).toString("latin1"),
        type,
        ttl: message.readUInt32BE(owner.end + 4),
        data: dataAt(message, { type, start, end }),
      };
      at = end;
      return record;
    });
  const answers = section(message.readUInt16BE(6));
  const authority = section(message.readUInt16BE(8));
  const all = section(message.readUInt16BE(10));
  const additional = all.filter(({ type }) => type !== 41);
  const optFlags = (all.find(({ type }) => type === 41)?.ttl ?? 0) & 0xffff;
  if (at !== message.length) throw new Error("bytes behind the message");
  const flags = message.readUInt16BE(2);
  return { rcode: flags & 15, flags, isCut: (flags & 0x200) !== 0, optFlags, answers, authority, additional };
}

function dataAt(message: Buffer, { type, start, end }: { readonly type: number; readonly start: number; readonly end: number }): Buffer {
  const names = NAMES[type];
  if (names === undefined) return message.subarray(start, end);
  const parts = [message.subarray(start, start + names.skip)];
  let at = start + names.skip;
  for (let i = 0; i < names.count; i++) {
    const name = nameAt(message, at);
    parts.push(lower(name.wire));
    at = name.end;
  }
  return Buffer.concat([...parts, message.subarray(at, end)]);
}

function nameAt(message: Buffer, start: number): { readonly wire: Buffer; readonly end: number } {
  const parts: Buffer[] = [];
  let at = start;
  let end: number | undefined;
  for (;;) {
    const length = message.readUInt8(at);
    if (length >= 0xc0) {
      end ??= at + 2;
      at = message.readUInt16BE(at) & 0x3fff;
      continue;
    }
    parts.push(message.subarray(at, at + 1 + length));
    at += 1 + length;
    if (length === 0) return { wire: Buffer.concat(parts), end: end ?? at };
  }
}

function lower(wire: Buffer): Buffer {
  return Buffer.from(wire.map((byte) => (byte >= 65 && byte <= 90 ? byte + 32 : byte)));
}

export function ownerOf(name: string): string {
  const labels = name.split(".").map((label) => String.fromCharCode(label.length) + label);
  return `${labels.join("")}\0`;
}

export function nameOf(owner: string): string {
  return [...labelsIn(owner)].join(".");
}

/** What is wrong with the signatures of these records, at a time. Every set must have one of a key of the list. */
export function signatureFaults(records: readonly WireRecord[], keys: readonly Buffer[], nowSeconds: number): readonly string[] {
  const sets = Map.groupBy(
    records.filter(({ type }) => type !== TYPE.RRSIG),
    ({ owner, type }) => `${owner} ${type}`,
  );
  const signatures = records.filter(({ type }) => type === TYPE.RRSIG);
  return [...sets].flatMap(([key, set]) => {
    const own = signatures.filter(({ owner, data }) => `${owner} ${data.readUInt16BE(0)}` === key);
    if (own.length === 0) return [`${key} has no signature`];
    const isGood = own.some((signature) =>
      keys.some((publicKey) => isReadable(signature) && isValid(set, signature, { publicKey, nowSeconds })),
    );
    return isGood ? [] : [`${key} has no good signature`];
  });
}

function isReadable({ data }: WireRecord): boolean {
  try {
    return data.length - nameAt(data, 18).end === 64;
  } catch {
    return false;
  }
}

function isValid(
  set: readonly WireRecord[],
  { data, owner, ttl }: WireRecord,
  { publicKey, nowSeconds }: { readonly publicKey: Buffer; readonly nowSeconds: number },
): boolean {
  const name = nameAt(data, 18);
  const original = data.readUInt32BE(4);
  const isOf = data.readUInt8(2) === 13 && data.readUInt16BE(16) === tagOf(publicKey) && owner.endsWith(name.wire.toString("latin1"));
  const isNow = data.readUInt32BE(12) <= nowSeconds && nowSeconds + original < data.readUInt32BE(8);
  const labels = [...labelsIn(owner)];
  const labelCount = labels[0] === "*" ? labels.length - 1 : labels.length;
  if (!isOf || !isNow || data.readUInt8(3) !== labelCount || ttl > original || set.some((record) => record.ttl !== ttl)) return false;
  const datas = set.map((record) => record.data).toSorted((a, b) => Buffer.compare(a, b));
  const parts = datas.map((each) => {
    const head = Buffer.alloc(10);
    head.writeUInt16BE(set[0]?.type ?? 0, 0);
    head.writeUInt16BE(1, 2);
    head.writeUInt32BE(original, 4);
    head.writeUInt16BE(each.length, 8);
    return Buffer.concat([Buffer.from(owner, "latin1"), head, each]);
  });
  const [x, y] = [publicKey.toString("base64url", 4, 36), publicKey.toString("base64url", 36)];
  const key = createPublicKey({ format: "jwk", key: { kty: "EC", crv: "P-256", x, y } });
  return verify(
    "sha256",
    Buffer.concat([data.subarray(0, name.end), ...parts]),
    { key, dsaEncoding: "ieee-p1363" },
    data.subarray(name.end),
  );
}

function* labelsIn(owner: string): Generator<string> {
  for (let at = 0; owner.charCodeAt(at) > 0; at += 1 + owner.charCodeAt(at)) yield owner.slice(at + 1, at + 1 + owner.charCodeAt(at));
}

/** RFC 4034, appendix B: the sum of 16-bit words with the carry. */
function tagOf(key: Buffer): number {
  let sum = 0;
  for (let i = 0; i < key.length; i += 2) sum += key.readUInt16BE(i);
  return (sum + (sum >> 16)) & 0xffff;
}

/** The types of an NSEC record, and whether it covers nothing but its owner (RFC 9824, 3). */
export function denialOf({ owner, data }: WireRecord): {
  readonly types: readonly number[];
  readonly isMinimal: boolean;
  readonly isAbsent: boolean;
} {
  const next = nameAt(data, 0);
  const types: number[] = [];
  for (let at = next.end; at < data.length; at += 2 + data.readUInt8(at + 1))
    for (let bit = 0; bit < 8 * data.readUInt8(at + 1); bit++)
      if ((data.readUInt8(at + 2 + (bit >> 3)) & (0x80 >> (bit & 7))) !== 0) types.push(data.readUInt8(at) * 256 + bit);
  return { types, isMinimal: next.wire.toString("latin1") === `\u0001\0${owner}`, isAbsent: types.includes(NXNAME) };
}
