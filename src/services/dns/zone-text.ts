/** Formats DNS records and codes in the text form of zone files. */

import { RCODE } from "../../dns/plan/answer.ts";
import type { DnsRecord, RecordData, RecordType } from "../../dns/records/record.ts";
import { findRecordType, RECORDS } from "../../dns/records/records.ts";
import type { IpAddress } from "../../lib/addresses.ts";
import { invalid } from "../../lib/errors.ts";

/** Formats the data of a record according to its type. Names include the final dot. */
const DATA: { readonly [T in RecordType]: (data: RecordData[T]) => string } = {
  A: ({ address }) => addressText(address),
  AAAA: ({ address }) => addressText(address),
  SRV: ({ priority, weight, port, target }) => `${priority} ${weight} ${port} ${full(target)}`,
  TXT: ({ strings }) => strings.map(quoted).join(" "),
  CNAME: ({ target }) => full(target),
  NS: ({ target }) => full(target),
  PTR: ({ target }) => full(target),
  SOA: (soa) =>
    [full(soa.primary), full(soa.mailbox), soa.serial, soa.refreshSeconds, soa.retrySeconds, soa.expireSeconds, soa.minimumSeconds].join(
      " ",
    ),
  SVCB: bindingText,
  HTTPS: bindingText,
  HINFO: ({ cpu, os }) => `${quoted(cpu)} ${quoted(os)}`,
  DNSKEY: keyText,
  CDNSKEY: keyText,
  CDS: digestText,
  DS: digestText,
  NSEC: ({ next, types }) => `\\# ${hex(next)} ${types.map(typeText).join(" ")}`,
  RRSIG: ({ covered, algorithm, labelCount, originalTtlSeconds, expiresSeconds, beginsSeconds, keyTag, signer, signature }) =>
    `${typeText(covered)} ${algorithm} ${labelCount} ${originalTtlSeconds} ${expiresSeconds} ${beginsSeconds} ${keyTag} ${full(signer)} ${base64(signature)}`,
};

function keyText({ flags, algorithm, publicKey }: RecordData["DNSKEY"]): string {
  return `${flags} 3 ${algorithm} ${base64(publicKey)}`;
}

function digestText({ keyTag, algorithm, digestType, digest }: RecordData["DS"]): string {
  return `${keyTag} ${algorithm} ${digestType} ${hex(digest)}`;
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64");
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

/** `name. 30 IN A 10.0.0.1` */
export function recordText(record: DnsRecord): string {
  return `${full(record.name)} ${record.ttlSeconds} IN ${record.type} ${dataText(record)}`;
}

function dataText<T extends RecordType>({ type, data }: { readonly type: T; readonly data: RecordData[T] }): string {
  return DATA[type](data);
}

/** Names of the parameter keys of SVCB and HTTPS records, indexed by their numbers (RFC 9460, 14.3.2). */
const BINDING_KEYS = ["mandatory", "alpn", "no-default-alpn", "port", "ipv4hint", "ech", "ipv6hint"];

function bindingText(data: RecordData["SVCB"]): string {
  const { priority, target, mandatory, alpn, isDefaultAlpnOff, port, ipv4Hints, ipv6Hints } = data;
  const list = (key: string, items: readonly string[]) => (items.length === 0 ? [] : [`${key}=${items.join(",")}`]);
  return [
    String(priority),
    full(target),
    ...list(
      "mandatory",
      mandatory.map((key) => BINDING_KEYS[key] ?? `key${key}`),
    ),
    ...(alpn.length === 0 ? [] : [`alpn="${alpn.join(",")}"`]),
    ...(isDefaultAlpnOff ? ["no-default-alpn"] : []),
    ...(port === 0 ? [] : [`port=${port}`]),
    ...list("ipv4hint", ipv4Hints.map(addressText)),
    ...list("ipv6hint", ipv6Hints.map(addressText)),
  ].join(" ");
}

/** Formats IPv4 addresses with dots, and IPv6 addresses as in RFC 5952, with `::` for the longest run of zeros. */
function addressText(address: IpAddress): string {
  if (address.length === 4) return address.join(".");
  const groups: string[] = [];
  for (let i = 0; i < address.length; i += 2) groups.push((((address[i] ?? 0) << 8) | (address[i + 1] ?? 0)).toString(16));
  const runs = [...groups.join(":").matchAll(/(?:^|:)0(?::0)+(?=:|$)/g)];
  const longest = runs.reduce<RegExpExecArray | undefined>((best, run) => (zeros(run[0]) > zeros(best?.[0] ?? "") ? run : best), undefined);
  if (longest === undefined) return groups.join(":");
  const text = groups.join(":");
  return `${text.slice(0, longest.index)}::${text.slice(longest.index + longest[0].length + 1)}`;
}

function zeros(run: string): number {
  return run.split("0").length;
}

function full(name: string): string {
  return `${name}.`;
}

/** Formats a character string (RFC 1035, 5.1). Quotes and backslashes are escaped, and bytes other than printable ASCII are written as `\DDD`. */
function quoted(text: string): string {
  const bytes = new TextEncoder().encode(text);
  return `"${[...bytes].map(charText).join("")}"`;
}

function charText(byte: number): string {
  const char = String.fromCharCode(byte);
  if (char === '"' || char === "\\") return `\\${char}`;
  return byte >= 0x20 && byte < 0x7f ? char : `\\${String(byte).padStart(3, "0")}`;
}

const RCODES: ReadonlyMap<number, string> = new Map(Object.entries(RCODE).map(([name, code]) => [code, name]));

export function rcodeText(rcode: number): string {
  return RCODES.get(rcode) ?? `RCODE${rcode}`;
}

/** Types that requests may name although the gateway does not have such records (IANA, DNS parameters). */
const OTHER_TYPES: Readonly<Record<string, number> & { [T in RecordType]?: never }> = {
  ANY: 255,
  AXFR: 252,
  CAA: 257,
  MX: 15,
  NAPTR: 35,
};
const TYPE_NUMBER = /^TYPE(\d{1,5})$/;

/** Returns the number of a record type. Throws `invalid_argument`. */
export function parseRecordType(text: string): number {
  const name = text.toUpperCase();
  if (name === "") return RECORDS.A.code;
  for (const [type, { code }] of Object.entries(RECORDS)) if (type === name) return code;
  const other = Object.hasOwn(OTHER_TYPES, name) ? OTHER_TYPES[name] : undefined;
  if (other !== undefined) return other;
  const number = Number(TYPE_NUMBER.exec(name)?.[1] ?? Number.NaN);
  if (number >= 0 && number <= 65_535) return number;
  throw invalid(
    "record_type",
    `unknown record type ${JSON.stringify(text)}: must be a name such as A, AAAA, SRV or TXT, or a number such as TYPE33`,
  );
}

/** Returns the name of a record type, or its number in the form `TYPE33`. */
export function typeText(code: number): string {
  return findRecordType(code) ?? Object.entries(OTHER_TYPES).find(([, other]) => other === code)?.[0] ?? `TYPE${code}`;
}
