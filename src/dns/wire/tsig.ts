/** TSIG (RFC 8945): verifies query signatures and signs responses with a shared secret. */
import { equalSecrets, type HmacAlgorithm, hmac } from "../../lib/crypto.ts";
import { readName, wireName } from "../names/wire-names.ts";

/** A secret shared with a secondary server. */
export interface TsigKey {
  /** The key name in lower case, without the final dot. */
  readonly name: string;
  readonly algorithm: HmacAlgorithm;
  readonly secret: Uint8Array;
  /** The index of the view that the key selects. */
  readonly viewIndex: number;
}

/** The TSIG record of a query. */
interface TsigRecord {
  readonly keyName: string;
  readonly algorithm: string;
  readonly timeSigned: number;
  readonly mac: Uint8Array;
  readonly originalId: number;
  readonly fudge: number;
  readonly error: number;
  readonly other: Uint8Array;
}

/** The data for the TSIG record of a response. */
export interface ResponseSignature {
  readonly key: TsigKey | undefined;
  readonly keyName: string;
  readonly algorithm: string;
  readonly requestMac: Uint8Array;
  readonly timeSigned: number;
  readonly error: number;
  readonly other: Uint8Array;
  /** Whether the record has an empty MAC, because the key is unknown or the query's MAC is wrong. */
  readonly isUnsigned: boolean;
}

/**
 * `malformed` means that the response is FORMERR without TSIG. Otherwise, the data for the response's TSIG record. The response is NOTAUTH if `error`
 * is not 0.
 */
export type TsigVerdict = "malformed" | ResponseSignature;

/** TSIG error codes (RFC 8945, 3). */
export const TSIG_ERROR = { NONE: 0, BADSIG: 16, BADKEY: 17, BADTIME: 18, BADTRUNC: 22 } as const;
export const TYPE_TSIG = 250;
const CLASS_ANY = 255;
/** Maximum clock difference in seconds (RFC 8945, 10). */
const FUDGE_SECONDS = 300;
const MIN_MAC_BYTES = 10;
const MAC_BYTES: Readonly<Record<HmacAlgorithm, number>> = { "hmac-sha256": 32, "hmac-sha384": 48, "hmac-sha512": 64 };
const NO_BYTES = new Uint8Array();
const ADDITIONAL_COUNT_AT = 10;
const HEAD_BYTES = 10;
const TIME_BYTES = 6;

/** Verifies the TSIG record at `at`, which is the last record of the message: first the key, then the MAC, the time and the MAC length (RFC 8945, 5.2). */
export function judgeTsig(
  message: Uint8Array,
  at: number,
  { findKey, nowSeconds }: { readonly findKey: (name: string) => TsigKey | undefined; readonly nowSeconds: number },
): TsigVerdict {
  const tsig = readTsig(message, at);
  if (tsig === undefined) return "malformed";
  const { keyName, algorithm, timeSigned, mac } = tsig;
  const key = findKey(keyName);
  const base = { keyName, algorithm, timeSigned, requestMac: mac, other: NO_BYTES };
  if (key === undefined || key.algorithm !== algorithm) return { ...base, key: undefined, error: TSIG_ERROR.BADKEY, isUnsigned: true };
  const whole = hmac(key.algorithm, key.secret, [unsignedQuery(message, at, tsig.originalId), ...variables(tsig, tsig)]);
  const isLegal = mac.length <= whole.length && mac.length >= Math.max(MIN_MAC_BYTES, whole.length / 2);
  if (!isLegal) return "malformed";
  if (!equalSecrets(mac, whole.subarray(0, mac.length))) return { ...base, key, error: TSIG_ERROR.BADSIG, isUnsigned: true };
  const fudge = Math.min(tsig.fudge, FUDGE_SECONDS);
  if (Math.abs(nowSeconds - timeSigned) > fudge)
    return { ...base, key, error: TSIG_ERROR.BADTIME, other: time48(nowSeconds), isUnsigned: false };
  const own = { ...base, key, timeSigned: nowSeconds, isUnsigned: false };
  // Truncated MACs are rejected because they are weaker and known clients do not need them (RFC 8945, 5.2.2.1, leaves the choice to the server).
  if (mac.length < whole.length) return { ...own, error: TSIG_ERROR.BADTRUNC };
  return { ...own, error: TSIG_ERROR.NONE };
}

/** Returns the number of bytes that the TSIG record adds to a response. */
export function tsigBytes({ key, keyName, algorithm, isUnsigned, other }: ResponseSignature): number {
  const macBytes = key === undefined || isUnsigned ? 0 : MAC_BYTES[key.algorithm];
  return wireName(keyName).length + wireName(algorithm).length + HEAD_BYTES + 16 + macBytes + other.length;
}

/** Returns the response with its TSIG record. */
export function withTsig(answer: Uint8Array, signing: ResponseSignature): Uint8Array {
  return withRecord(answer, signing, macOf(answer, signing));
}

/** Signs the messages of one response in order (RFC 8945, 5.3.1): each MAC covers the previous one. */
export class TsigChain {
  readonly #signing: ResponseSignature;
  #before: Uint8Array | undefined;

  constructor(signing: ResponseSignature) {
    this.#signing = signing;
  }

  sign(message: Uint8Array, nowSeconds: number): Uint8Array {
    const signing = { ...this.#signing, timeSigned: nowSeconds };
    const { key } = signing;
    const timers = [time48(nowSeconds), u16(FUDGE_SECONDS)];
    const mac =
      this.#before === undefined || key === undefined
        ? macOf(message, signing)
        : hmac(key.algorithm, key.secret, [u16(this.#before.length), this.#before, message, ...timers]);
    this.#before = mac;
    return withRecord(message, signing, mac);
  }
}

function macOf(answer: Uint8Array, signing: ResponseSignature): Uint8Array {
  const { key, requestMac } = signing;
  if (key === undefined || signing.isUnsigned) return NO_BYTES;
  return hmac(key.algorithm, key.secret, [u16(requestMac.length), requestMac, answer, ...variables(signing, { fudge: FUDGE_SECONDS })]);
}

function withRecord(answer: Uint8Array, signing: ResponseSignature, mac: Uint8Array): Uint8Array {
  const { keyName, algorithm, timeSigned, error, other } = signing;
  const data = [
    wireName(algorithm),
    time48(timeSigned),
    u16(FUDGE_SECONDS),
    u16(mac.length),
    mac,
    answer.subarray(0, 2),
    u16(error),
    u16(other.length),
    other,
  ];
  const dataBytes = data.reduce((sum, { length }) => sum + length, 0);
  const head = [wireName(keyName), u16(TYPE_TSIG), u16(CLASS_ANY), u16(0), u16(0), u16(dataBytes)];
  const out = Buffer.concat([answer, ...head, ...data]);
  out.writeUInt16BE(out.readUInt16BE(ADDITIONAL_COUNT_AT) + 1, ADDITIONAL_COUNT_AT);
  return out;
}

/** Returns the query as it was signed: without the TSIG record and with its original id. */
function unsignedQuery(message: Uint8Array, at: number, originalId: number): Uint8Array {
  const bytes = Buffer.from(message.subarray(0, at));
  bytes.writeUInt16BE(originalId, 0);
  bytes.writeUInt16BE(bytes.readUInt16BE(ADDITIONAL_COUNT_AT) - 1, ADDITIONAL_COUNT_AT);
  return bytes;
}

/** Returns the TSIG variables, which are signed together with the message (RFC 8945, 4.3.3). */
function variables(
  { keyName, algorithm, timeSigned, error, other }: Pick<ResponseSignature, "algorithm" | "error" | "keyName" | "other" | "timeSigned">,
  { fudge }: { readonly fudge: number },
): readonly Uint8Array[] {
  const name = wireName(keyName);
  return [name, u16(CLASS_ANY), u16(0), u16(0), wireName(algorithm), time48(timeSigned), u16(fudge), u16(error), u16(other.length), other];
}

/**
 * Reads a TSIG record. Returns undefined when the record is invalid. The owner name may be compressed (RFC 1035, 4.1.4), as in dnspython. Names in
 * the record data must not be compressed.
 */
function readTsig(bytes: Uint8Array, start: number): TsigRecord | undefined {
  const owner = readName(bytes, start, { mayPoint: true });
  if (owner === undefined || owner.end + HEAD_BYTES > bytes.length) return undefined;
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const end = owner.end + HEAD_BYTES + view.readUInt16BE(owner.end + 8);
  if (view.readUInt16BE(owner.end + 2) !== CLASS_ANY || view.readUInt32BE(owner.end + 4) !== 0 || end !== bytes.length) return undefined;
  const algorithm = readName(bytes, owner.end + HEAD_BYTES, { mayPoint: false });
  if (algorithm === undefined) return undefined;
  const at = algorithm.end;
  const macAt = at + TIME_BYTES + 4;
  if (macAt > end) return undefined;
  const macBytes = view.readUInt16BE(macAt - 2);
  const restAt = macAt + macBytes;
  if (restAt + TIME_BYTES > end || restAt + TIME_BYTES + view.readUInt16BE(restAt + 4) !== end) return undefined;
  return {
    keyName: owner.name,
    algorithm: algorithm.name,
    timeSigned: view.readUIntBE(at, TIME_BYTES),
    fudge: view.readUInt16BE(at + TIME_BYTES),
    mac: Uint8Array.from(bytes.subarray(macAt, restAt)),
    originalId: view.readUInt16BE(restAt),
    error: view.readUInt16BE(restAt + 2),
    other: Uint8Array.from(bytes.subarray(restAt + TIME_BYTES, end)),
  };
}

function u16(value: number): Uint8Array {
  return Uint8Array.of(value >> 8, value & 0xff);
}

function time48(seconds: number): Uint8Array {
  const out = Buffer.alloc(TIME_BYTES);
  out.writeUIntBE(seconds, 0, TIME_BYTES);
  return out;
}
