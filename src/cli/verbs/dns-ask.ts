/** `dns resolve @server NAME TYPE +tcp`: speaks DNS itself, and prints what it gets in the manner of dig. */
import { findNearest } from "../../lib/nearest.ts";
import { type AnsweredRecord, askDns, type DnsQuestion } from "../dns-client.io.ts";
import { CommandError, EXIT, type Exit, UsageError } from "../exit.ts";
import type { Output } from "../output.ts";

const DNS_PORT = 53;
/** Types with a name of their own in the library. */
const ASKED_TYPES: readonly string[] = [
  "A",
  "AAAA",
  "SRV",
  "TXT",
  "CNAME",
  "NS",
  "SOA",
  "PTR",
  "HTTPS",
  "SVCB",
  "MX",
  "CAA",
  "DS",
  "DNSKEY",
  "HINFO",
];
/** Types that the resolver of the machine asks for. */
export const NODE_TYPES: readonly string[] = ["A", "AAAA", "SRV", "TXT", "CNAME", "NS", "SOA", "PTR"];
/** Types without one (IANA, DNS parameters). */
const UNNAMED: Readonly<Record<string, number>> = { SVCB: 64, HTTPS: 65 };
const EDE_OPTION = 15;

/** Throws a usage error for a word that is no record type. */
export function checkType(type: string, types: readonly string[]): void {
  if (types.includes(type) || (types === ASKED_TYPES && /^TYPE\d{1,5}$/.test(type))) return;
  const nearest = findNearest(type, types);
  throw new UsageError(
    `${type}: not a record type: ${types.join(", ")}${types === ASKED_TYPES ? ", or TYPE and its number" : ""}${nearest === undefined ? "" : `\n(Did you mean ${nearest}?)`}`,
  );
}

/** `@host`, `@host:port` or `@[v6]:port`. */
function serverOf(word: string): Pick<DnsQuestion, "host" | "port"> {
  const match =
    /^@(?:\[(?<v6>[0-9A-Fa-f:.]+)\]|(?<host>[^[\]:]+))(?::(?<port>\d{1,5}))?$/.exec(word) ?? /^@(?<v6>[0-9A-Fa-f:.]+)$/.exec(word);
  const host = match?.groups?.["v6"] ?? match?.groups?.["host"];
  const port = Number(match?.groups?.["port"] ?? DNS_PORT);
  if (host === undefined || port < 1 || port > 65_535) throw new UsageError(`${word}: not @host, @host:port or @[IPv6]:port`);
  return { host, port };
}

export async function askServer(words: readonly string[], out: Output): Promise<Exit> {
  const [server = "", ...rest] = words;
  const isTcp = rest.includes("+tcp");
  const [name = "", type = "A", ...more] = rest.filter((word) => word !== "+tcp");
  if (name === "") throw new UsageError("a name is needed after the server");
  if (more.length > 0) throw new UsageError(`${more.join(" ")}: unknown; the words are @server NAME TYPE +tcp`);
  checkType(type, ASKED_TYPES);
  const place = serverOf(server);
  const number = UNNAMED[type] ?? (type.startsWith("TYPE") ? Number(type.slice("TYPE".length)) : undefined);
  const asked = { ...place, name: name.replace(/\.$/, "") || ".", type: number === undefined ? type : `UNKNOWN_${number}` };
  const { packet, transport } = await askDns(asked, isTcp).catch((error: unknown) => {
    throw new CommandError(`no answer from the DNS server at ${server.slice(1)}`, EXIT.unreachable, error);
  });
  const { flag_aa: isAuthoritative, flag_tc: isCut } = packet;
  // The types of the library forget it.
  const rcode = String(Reflect.get(packet, "rcode"));
  const records = (answers: readonly AnsweredRecord[] | undefined) => (answers ?? []).filter((one) => one.type !== "OPT").map(recordText);
  const extendedErrors = (packet.additionals ?? []).flatMap(errorsOf);
  const sections = { answer: records(packet.answers), authority: records(packet.authorities), additional: records(packet.additionals) };
  const flags = [isAuthoritative ? "aa" : "", isCut ? "tc" : ""].filter((flag) => flag !== "");
  const json = { name, type, server: server.slice(1), transport, rcode, flags, ...sections, extendedErrors };
  const lines = [`;; status: ${rcode}, flags: ${flags.join(" ") || "none"}, over ${transport.toUpperCase()}`];
  for (const error of extendedErrors) lines.push(`;; EDE: ${error}`);
  for (const [title, texts] of Object.entries(sections)) if (texts.length > 0) lines.push(`;; ${title.toUpperCase()}`, ...texts);
  if (out.isMachine) out.json(json);
  else out.raw(`${lines.join("\n")}\n`);
  return exitFor(rcode, sections.answer.length);
}

function exitFor(rcode: string, count: number): Exit {
  if (rcode === "NXDOMAIN" || (rcode === "NOERROR" && count === 0)) return EXIT.notFound;
  return rcode === "NOERROR" ? EXIT.done : EXIT.failed;
}

/** The extended errors (RFC 8914) of an OPT record. */
function errorsOf(record: AnsweredRecord): readonly string[] {
  if (record.type !== "OPT") return [];
  return record.options.flatMap((option) => {
    // The types of the library do not know this option.
    const [code, data]: readonly unknown[] = [Reflect.get(option, "code"), Reflect.get(option, "data")];
    if (code !== EDE_OPTION || !(data instanceof Uint8Array) || data.length < 2) return [];
    const text = Buffer.from(data.subarray(2)).toString();
    return [`${((data[0] ?? 0) << 8) | (data[1] ?? 0)}${text === "" ? "" : ` (${printable(text)})`}`];
  });
}

/** A record as in a zone file. What the library does not know is written by RFC 3597. */
function recordText(record: AnsweredRecord): string {
  const { name, type }: { readonly name: string; readonly type: string } = record;
  const ttl: unknown = Reflect.get(record, "ttl");
  const typeText = type.replace(/^UNKNOWN_/, "TYPE");
  const known = Object.entries(UNNAMED).find(([, number]) => typeText === `TYPE${number}`)?.[0];
  return printable(`${name === "." ? "" : name}. ${String(ttl)} IN ${known ?? typeText} ${dataText(Reflect.get(record, "data"), type)}`);
}

/** Types whose data is a name. */
const NAMES: ReadonlySet<string> = new Set(["CNAME", "NS", "PTR"]);
const FIELDS: Readonly<Record<string, readonly string[]>> = {
  SRV: ["priority", "weight", "port", "target"],
  SOA: ["mname", "rname", "serial", "refresh", "retry", "expire", "minimum"],
  MX: ["preference", "exchange"],
  HINFO: ["cpu", "os"],
};
const FIELD_NAMES: ReadonlySet<string> = new Set(["target", "mname", "rname", "exchange"]);

function dataText(data: unknown, type: string): string {
  if (data instanceof Uint8Array && type !== "TXT") return `\\# ${data.length} ${Buffer.from(data).toString("hex")}`.trimEnd();
  if (typeof data === "string") return NAMES.has(type) ? `${data}.` : data;
  if (Array.isArray(data) || data instanceof Uint8Array)
    return [data]
      .flat()
      .map((part: unknown) => JSON.stringify(String(part)))
      .join(" ");
  if (typeof data !== "object" || data === null) return String(data);
  const fields = FIELDS[type] ?? Object.keys(data);
  return fields.map((field) => `${String(Reflect.get(data, field))}${FIELD_NAMES.has(field) ? "." : ""}`).join(" ");
}

/** Control characters of a stranger do not reach the terminal. */
function printable(text: string): string {
  // oxlint-disable-next-line no-control-regex -- they are what it replaces
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, (char) => `\\${String(char.charCodeAt(0)).padStart(3, "0")}`);
}
