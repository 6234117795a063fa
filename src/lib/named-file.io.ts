/** Reads files that are named in settings: regular files of limited size, read completely and without waiting. */
import { X509Certificate } from "node:crypto";
import { closeSync, constants, fstatSync, openSync, readSync, type Stats } from "node:fs";
import { createSecureContext } from "node:tls";

/** Maximum size of a file with certificates or keys. A bundle of all public CAs is a quarter of this size. */
export const MAX_PEM_BYTES = 1 << 20;
/** Maximum size of a file with one or two tokens. */
export const MAX_TOKEN_FILE_BYTES = 1 << 16;
export const MAX_JWKS_BYTES = 1 << 20;
const CHUNK_BYTES = 1 << 16;

/** A file, and the setting that contains its name. */
export interface NamedFile {
  readonly setting: string;
  readonly path: string;
  readonly maxBytes: number;
}

/** Reads the whole file. Throws an error that contains the setting, the file, and the violated rule, but never the file's contents. */
export function readNamedFile({ setting, path, maxBytes }: NamedFile): Buffer {
  const read = readBounded(path, maxBytes);
  if (read.bytes !== undefined) return read.bytes;
  throw new Error(`${setting}: ${path}: ${read.fault}`);
}

/**
 * Reads a file of PEM certificates. Without this check, TLS would treat a file without certificates, or with an unreadable certificate, as a shorter
 * list, and would not trust the peers that the operator intended. Throws like `readNamedFile`.
 */
export function readCertificates(setting: string, path: string): Buffer {
  const bytes = readNamedFile({ setting, path, maxBytes: MAX_PEM_BYTES });
  const fault = certificatesFault(bytes);
  if (fault !== undefined) throw new Error(`${setting}: ${path} ${fault}`);
  return bytes;
}

/**
 * Returns why a file's content is not a list of PEM certificates, as text that follows the file's name. Other content between certificates is
 * ignored, as in TLS.
 */
export function certificatesFault(bytes: Buffer): string | undefined {
  const blocks = bytes
    .toString("latin1")
    .split("-----BEGIN ")
    .filter((block) => /^(?:X509 |TRUSTED )?CERTIFICATE-----/.test(block));
  if (blocks.length === 0) return "contains no certificate in PEM format";
  const bad = blocks.findIndex((block) => !isCertificate(`-----BEGIN ${block}`));
  return bad < 0 ? undefined : `contains ${blocks.length} certificates in PEM format, but certificate ${bad + 1} cannot be read`;
}

function isCertificate(pem: string): boolean {
  try {
    return new X509Certificate(pem).serialNumber !== "";
  } catch {
    return false;
  }
}

/** Reads a file of PEM revocation lists. `node:tls` accepts one list per buffer. Throws like `readNamedFile`. */
export function readRevocationLists(setting: string, path: string): readonly Buffer[] {
  const text = readNamedFile({ setting, path, maxBytes: MAX_PEM_BYTES }).toString("latin1");
  const lists = (text.match(/-----BEGIN X509 CRL-----[^-]*-----END X509 CRL-----/g) ?? []).map((list) => Buffer.from(list));
  if (lists.length > 0 && lists.every(isRevocationList)) return lists;
  throw new Error(`${setting}: ${path} contains no certificate revocation list in PEM format, or one that cannot be read`);
}

function isRevocationList(crl: Buffer): boolean {
  try {
    createSecureContext({ crl });
    return true;
  } catch {
    return false;
  }
}

/** Reads the only line of a file that contains a token. The error message contains the file's name but never its content. */
export function readToken(path: string, setting: string): string {
  const text = readNamedFile({ setting, path, maxBytes: MAX_TOKEN_FILE_BYTES }).toString("utf8");
  const token = text.replace(/\r?\n$/, "");
  if (/^[\x21-\x7e]{1,8192}$/.test(token)) return token;
  throw new Error(`${setting}: ${path} must contain one line of 1 to 8192 printable ASCII characters without spaces`);
}

export type BoundedRead = { readonly bytes: Buffer } | { readonly bytes: undefined; readonly fault: string };

/**
 * Reads the whole file, or returns why this failed, as text that follows the file's name. A named pipe, a device, or an endless file would block the
 * process or fill its memory, so such files are refused without being read.
 */
export function readBounded(path: string, maxBytes: number): BoundedRead {
  let descriptor: number;
  try {
    // With O_NONBLOCK, opening a named pipe does not wait for its other end to be opened.
    descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (cause) {
    return { bytes: undefined, fault: isCode(cause, "ENXIO") ? notRegular("a socket or a device", maxBytes) : wordsOf(cause) };
  }
  try {
    const stats = fstatSync(descriptor);
    if (!stats.isFile()) return { bytes: undefined, fault: notRegular(kindOf(stats), maxBytes) };
    if (stats.size > maxBytes) return { bytes: undefined, fault: tooLarge(`${stats.size} bytes`, maxBytes) };
    return readUpTo(descriptor, maxBytes);
  } catch (cause) {
    return { bytes: undefined, fault: wordsOf(cause) };
  } finally {
    closeSync(descriptor);
  }
}

/** Counts the bytes that are read, because files under `/proc` have the size 0, and any file may grow in the meantime. */
function readUpTo(descriptor: number, maxBytes: number): BoundedRead {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for (;;) {
    const chunk = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, maxBytes + 1 - sizeBytes));
    const readBytes = readSync(descriptor, chunk);
    if (readBytes === 0) return { bytes: Buffer.concat(chunks, sizeBytes) };
    chunks.push(chunk.subarray(0, readBytes));
    sizeBytes += readBytes;
    if (sizeBytes > maxBytes) return { bytes: undefined, fault: tooLarge(`more than ${maxBytes} bytes`, maxBytes) };
  }
}

function notRegular(what: string, maxBytes: number): string {
  return `it is ${what}; specify a regular file of at most ${maxBytes} bytes`;
}

function tooLarge(has: string, maxBytes: number): string {
  return `it has ${has}; specify a regular file of at most ${maxBytes} bytes`;
}

function kindOf(stats: Stats): string {
  if (stats.isDirectory()) return "a directory";
  if (stats.isFIFO()) return "a named pipe";
  return "a device";
}

/** The system's message without the path, which the caller adds in front of it. */
function wordsOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.message.replace(/, \w+(?: '.*')?$/s, "");
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
