/** `dns resolve`: a DNS client. With @server, it prints all sections of the answer, like dig. */

import { findNearest } from "../../lib/nearest.ts";
import { visibleText } from "../../lib/text/visible-text.ts";
import { type AnsweredRecord, askDns, type DnsQuestion, type DnsReply } from "../dns-client.io.ts";
import { bytesText } from "../dns-data.ts";
import { CommandError, EXIT, type ExitCode, UsageError } from "../exit.ts";
import type { CommandOutput } from "../output.ts";

const DNS_PORT = 53;
/** Record types that can be queried by name, with their numbers (IANA, DNS parameters). */
const ASKED_TYPES: Readonly<Record<string, number>> = {
  A: 1,
  AAAA: 28,
  SRV: 33,
  TXT: 16,
  CNAME: 5,
  NS: 2,
  SOA: 6,
  PTR: 12,
  HTTPS: 65,
  SVCB: 64,
  MX: 15,
  CAA: 257,
  DS: 43,
  DNSKEY: 48,
  CDS: 59,
  CDNSKEY: 60,
  HINFO: 13,
};
/** Record types for which dns-packet has no name. */
const UNNAMED: readonly string[] = ["SVCB", "HTTPS"];
const MAX_TYPE = 65_535;
const EDE_OPTION = 15;
/** Extended errors that gateways, and validating resolvers in front of them, return (RFC 8914, IANA). */
const EXTENDED_ERRORS: Readonly<Record<number, string>> = {
  3: "Stale Answer",
  6: "DNSSEC Bogus",
  7: "Signature Expired",
  8: "Signature Not Yet Valid",
  9: "DNSKEY Missing",
  10: "RRSIGs Missing",
  14: "Not Ready",
  15: "Blocked",
  18: "Prohibited",
  21: "Not Supported",
  22: "No Reachable Authority",
  23: "Network Error",
  30: "Invalid Query Type",
};

/** Parses the question from the arguments after the server. Throws a UsageError. */
export function questionOf(words: readonly string[]): { readonly name: string; readonly type: string; readonly isTcp: boolean } {
  const [name = "", type = "A", ...more] = words.filter((word) => !isTcpWord(word));
  if (more.length > 0) throw new UsageError(`unexpected ${more.join(" ")}: expected [@server] NAME [TYPE] [+tcp]`);
  return { name, type: typeOf(type), isTcp: words.some(isTcpWord) };
}

function isTcpWord(word: string): boolean {
  return word.toLowerCase() === "+tcp";
}

/** Returns the name of a record type, which can also be given as `TYPE33`. Throws a UsageError. */
function typeOf(type: string): string {
  const upper = type.toUpperCase();
  if (Object.hasOwn(ASKED_TYPES, upper)) return upper;
  const number = Number(/^TYPE(\d{1,5})$/.exec(upper)?.[1]);
  const names = Object.keys(ASKED_TYPES);
  if (number <= MAX_TYPE) return names.find((name) => ASKED_TYPES[name] === number) ?? upper;
  const nearest = findNearest(type, names);
  const types = `${names.join(", ")}, or TYPE followed by a number`;
  throw new UsageError(
    `unknown record type ${type}: expected one of ${types}${nearest === undefined ? "" : `\n(Did you mean ${nearest}?)`}`,
  );
}

/** Parses `host`, `host:port` or `[v6]:port`. Returns undefined for other text. */
export function placeOf(text: string): Pick<DnsQuestion, "host" | "port"> | undefined {
  const match =
    /^(?:\[(?<v6>[0-9A-Fa-f:.]+)\]|(?<host>[^[\]:]+))(?::(?<port>\d{1,5}))?$/.exec(text) ?? /^(?<v6>[0-9A-Fa-f:.]+)$/.exec(text);
  const host = match?.groups?.["v6"] ?? match?.groups?.["host"];
  const port = Number(match?.groups?.["port"] ?? DNS_PORT);
  return host === undefined || port < 1 || port > 65_535 ? undefined : { host, port };
}

export interface DnsQueryRequest extends Pick<DnsQuestion, "host" | "name" | "port" | "type"> {
  readonly isTcp: boolean;
  /** Name of the server, used in messages. */
  readonly server: string;
}

/** Sends a query. Throws a CommandError with advice if no answer arrives. */
export async function askOf({ isTcp, server, name, type, ...place }: DnsQueryRequest): Promise<DnsReply & { readonly rcode: string }> {
  const number = numberOf(type);
  const asked = { ...place, name: name.replace(/\.$/, "") || ".", type: number === undefined ? type : `UNKNOWN_${number}` };
  const reply = await askDns(asked, isTcp).catch((error: unknown) => {
    if (error instanceof Error && "syscall" in error && error.syscall === "getaddrinfo")
      throw new UsageError(`no address is known for ${server}: expected an IP address or a known host name, with an optional port`);
    const advice = "check the address and port (waymark discovery status shows them for a node), and that no firewall blocks UDP or TCP";
    throw new CommandError(`no answer from the DNS server at ${server}\n${advice}`, EXIT.unreachable, error);
  });
  // The library's types lack this field.
  return { ...reply, rcode: String(Reflect.get(reply.packet, "rcode")) };
}

function numberOf(type: string): number | undefined {
  if (UNNAMED.includes(type)) return ASKED_TYPES[type];
  return type.startsWith("TYPE") ? Number(type.slice("TYPE".length)) : undefined;
}

/** Returns the data of the records with a given type. Names do not have a trailing dot. */
export function dataOf(reply: DnsReply, type: string): readonly string[] {
  const number = numberOf(type);
  // dns-packet has no name for some types. Apart from the requested records, an answer contains only CNAME records.
  const isOwn = (record: AnsweredRecord) => (number === undefined ? record.type === type : record.type !== "CNAME");
  const own = (reply.packet.answers ?? []).filter(isOwn);
  return own.map((record) => printable(dataText(Reflect.get(record, "data"), record.type, "")));
}

export async function askServer(words: readonly string[], out: CommandOutput): Promise<ExitCode> {
  const [word = "", ...rest] = words;
  const server = word.slice(1);
  const { name, type, isTcp } = questionOf(rest);
  if (name === "") throw new UsageError("missing name after the server: expected @server NAME [TYPE] [+tcp]");
  const place = placeOf(server);
  if (place === undefined) throw new UsageError(`invalid server ${word}: expected @host, @host:port or @[IPv6]:port`);
  const { packet, transport, rcode } = await askOf({ ...place, name, type, isTcp, server });
  const { flag_aa: isAuthoritative, flag_tc: isCut } = packet;
  const records = (answers: readonly AnsweredRecord[] | undefined) => (answers ?? []).filter((one) => one.type !== "OPT").map(recordText);
  const extendedErrors = (packet.additionals ?? []).flatMap(errorsOf);
  const sections = { answer: records(packet.answers), authority: records(packet.authorities), additional: records(packet.additionals) };
  const flags = [isAuthoritative ? "aa" : "", isCut ? "tc" : ""].filter((flag) => flag !== "");
  const json = { name, type, server, transport, rcode, flags, ...sections, extendedErrors };
  const lines = [`;; status: ${rcode}, flags: ${flags.join(" ") || "none"}, over ${transport.toUpperCase()}`];
  for (const error of extendedErrors) lines.push(`;; EDE: ${error}`);
  for (const [title, texts] of Object.entries(sections)) if (texts.length > 0) lines.push(`;; ${title.toUpperCase()}`, ...texts);
  if (out.isMachine) out.json(json);
  else out.raw(`${lines.join("\n")}\n`);
  return exitFor(rcode, sections.answer.length);
}

function exitFor(rcode: string, count: number): ExitCode {
  if (rcode === "NXDOMAIN" || (rcode === "NOERROR" && count === 0)) return EXIT.notFound;
  return rcode === "NOERROR" ? EXIT.done : EXIT.failed;
}

/** Returns the extended errors (RFC 8914) in an OPT record. */
function errorsOf(record: AnsweredRecord): readonly string[] {
  if (record.type !== "OPT") return [];
  return record.options.flatMap((option) => {
    // The library's types lack this option.
    const [code, data]: readonly unknown[] = [Reflect.get(option, "code"), Reflect.get(option, "data")];
    if (code !== EDE_OPTION || !(data instanceof Uint8Array) || data.length < 2) return [];
    const info = ((data[0] ?? 0) << 8) | (data[1] ?? 0);
    const said = [EXTENDED_ERRORS[info] ?? "", printable(Buffer.from(data.subarray(2)).toString())].filter((text) => text !== "");
    return [`${info}${said.length === 0 ? "" : ` (${said.join(": ")})`}`];
  });
}

/** Formats a record as in a zone file. Unknown types are written as in RFC 3597. */
function recordText(record: AnsweredRecord): string {
  const { name, type }: { readonly name: string; readonly type: string } = record;
  const ttl: unknown = Reflect.get(record, "ttl");
  const typeText = type.replace(/^UNKNOWN_/, "TYPE");
  const known = UNNAMED.find((each) => typeText === `TYPE${ASKED_TYPES[each]}`);
  return printable(`${name === "." ? "" : name}. ${String(ttl)} IN ${known ?? typeText} ${dataText(Reflect.get(record, "data"), type)}`);
}

/** Record types whose data is a name. */
const NAMES: ReadonlySet<string> = new Set(["CNAME", "NS", "PTR"]);
const FIELDS: Readonly<Record<string, readonly string[]>> = {
  SRV: ["priority", "weight", "port", "target"],
  DNSKEY: ["flags", "protocol", "algorithm", "key"],
  SOA: ["mname", "rname", "serial", "refresh", "retry", "expire", "minimum"],
  MX: ["preference", "exchange"],
  HINFO: ["cpu", "os"],
  CAA: ["flags", "tag", "value"],
};
const FIELD_NAMES: ReadonlySet<string> = new Set(["target", "mname", "rname", "exchange"]);

function dataText(data: unknown, type: string, end = "."): string {
  if (data instanceof Uint8Array && type !== "TXT") return bytesText(type, data);
  if (typeof data === "string") return NAMES.has(type) ? `${data}${end}` : data;
  if (Array.isArray(data) || data instanceof Uint8Array)
    return [data]
      .flat()
      .map((part: unknown) => JSON.stringify(String(part)))
      .join(" ");
  if (typeof data !== "object" || data === null) return String(data);
  const fields = FIELDS[type] ?? Object.keys(data);
  return fields.map((field) => fieldText(field, Reflect.get(data, field), end)).join(" ");
}

function fieldText(field: string, value: unknown, end: string): string {
  // The library accepts only this value.
  if (field === "protocol") return "3";
  if (value instanceof Uint8Array) return Buffer.from(value).toString(field === "digest" ? "hex" : "base64");
  if (field === "value") return JSON.stringify(String(value));
  return `${String(value)}${FIELD_NAMES.has(field) ? end : ""}`;
}

/**
 * Escapes control characters and text-direction characters from the network, so that they do not reach the terminal. Each byte is escaped as in zone
 * files.
 */
function printable(text: string): string {
  return visibleText(text, (char) => [...Buffer.from(char)].map((byte) => `\\${String(byte).padStart(3, "0")}`).join(""));
}
