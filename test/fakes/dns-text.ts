/** Queries and responses of DNS as text, through dns-packet: an implementation that is not ours. */
import packet, { type Answer, type DecodedPacket } from "dns-packet";

import { svcbText } from "./svcb-text.ts";

export interface QuerySpec {
  readonly name: string;
  readonly type: string;
  /** Advertised UDP size; undefined sends no OPT. */
  readonly bufsize?: number | undefined;
  readonly id?: number;
  readonly rd?: boolean;
}

/** A query as a stub resolver sends it. */
export function queryBytes({ name, type, bufsize, id, rd }: QuerySpec): Uint8Array {
  return packet.encode({
    type: "query",
    id: id ?? 7,
    flags: rd === false ? 0 : packet.RECURSION_DESIRED,
    questions: [{ name, type: (UNKNOWN_TO_PACKET[type] ?? type) as packet.RecordType, class: "IN" }],
    additionals:
      bufsize === undefined
        ? []
        : [{ type: "OPT", name: ".", udpPayloadSize: bufsize, extendedRcode: 0, ednsVersion: 0, flags: 0, flag_do: false, options: [] }],
  });
}

/** `NOERROR aa` and the records, a line each, as zone-file text after the name of their section. */
export function responseText(bytes: Uint8Array): string {
  const message: DecodedPacket & { readonly rcode?: string } = packet.decode(Buffer.from(bytes));
  const flags = [message.flag_aa && "aa", message.flag_tc && "tc"].filter((flag) => flag !== false);
  const lines = [[message.rcode ?? "?", ...flags].join(" ")];
  for (const record of message.answers ?? []) lines.push(`answer     ${recordLine(record)}`);
  for (const record of message.authorities ?? []) lines.push(`authority  ${recordLine(record)}`);
  for (const record of message.additionals ?? []) if (record.type !== "OPT") lines.push(`additional ${recordLine(record)}`);
  return lines.join("\n");
}

/** The records of one section as text. */
export function sectionLines(bytes: Uint8Array, section: "answer" | "authority" | "additional"): string[] {
  return responseText(bytes)
    .split("\n")
    .filter((line) => line.startsWith(section))
    .map((line) => line.slice(11));
}

/** How dns-packet calls the types that it does not know. */
const UNKNOWN_TO_PACKET: Readonly<Record<string, string>> = { SVCB: "UNKNOWN_64", HTTPS: "UNKNOWN_65" };

function recordLine(record: Answer): string {
  if (!("ttl" in record)) return record.type;
  const [known] = Object.entries(UNKNOWN_TO_PACKET).find(([, unknown]) => unknown === record.type) ?? [];
  if (known !== undefined && "data" in record && record.data instanceof Uint8Array)
    return `${record.name}. ${record.ttl ?? 0} ${known} ${svcbText(record.data)}`;
  return `${record.name}. ${record.ttl ?? 0} ${record.type} ${dataText(record)}`;
}

/** How dns-packet's data of a type reads in a zone file. */
function dataText(record: Answer): string {
  if (record.type === "A" || record.type === "AAAA") return record.data;
  if (record.type === "CNAME" || record.type === "NS" || record.type === "PTR") return `${record.data}.`;
  if (record.type === "SRV") return `${record.data.priority ?? 0} ${record.data.weight ?? 0} ${record.data.port} ${record.data.target}.`;
  if (record.type === "HINFO") return `"${record.data.cpu}" "${record.data.os}"`;
  if (record.type === "TXT")
    return [record.data]
      .flat()
      .map((text) => `"${text.toString()}"`)
      .join(" ");
  if (record.type !== "SOA") return "?";
  const { mname, rname, serial, refresh, retry, expire, minimum } = record.data;
  return `${mname}. ${rname}. ${serial} ${refresh} ${retry} ${expire} ${minimum}`;
}

/** A query of a forwarder on behalf of a network (client subnet, RFC 7871). */
export function subnetQuery(spec: {
  readonly name: string;
  readonly type: string;
  /** Of IPv4. */
  readonly address: readonly number[];
  readonly sourcePrefix: number;
  readonly sizeBytes: number;
}): Uint8Array {
  const ip = spec.address.map((byte, i) => (8 * i < spec.sourcePrefix ? byte : 0)).join(".");
  const subnet = { code: "CLIENT_SUBNET", family: 1, sourcePrefixLength: spec.sourcePrefix, scopePrefixLength: 0, ip };
  const opt = { type: "OPT", name: ".", udpPayloadSize: spec.sizeBytes, extendedRcode: 0, ednsVersion: 0, flags: 0, flag_do: false };
  return packet.encode({
    type: "query",
    id: 7,
    questions: [{ name: spec.name, type: spec.type as packet.RecordType, class: "IN" }],
    additionals: [{ ...opt, options: [subnet] } as never],
  });
}

/** The scope of the client subnet in a response; 0 without one. */
export function scopeOf(bytes: Uint8Array): number {
  const opt = packet.decode(Buffer.from(bytes)).additionals?.find(({ type }) => type === "OPT");
  const options: readonly { readonly code: unknown; readonly scopePrefixLength?: number }[] =
    opt?.type === "OPT" ? (opt.options as never) : [];
  return options.find(({ code }) => code === 8)?.scopePrefixLength ?? 0;
}
