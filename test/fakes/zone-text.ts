/** Records as the lines of a zone file (RFC 1035, section 5), so that other servers can have what ours answers. */
import type { Answer } from "dns-packet";

/** The record as a line; undefined for OPT, which no zone has. */
export function zoneLine(record: Answer): string | undefined {
  if (record.type === "OPT") return undefined;
  // What dns-packet knows no name for it calls so, and keeps its bytes.
  const type = record.type.replace(/^UNKNOWN_/, "TYPE");
  return `${record.name}. ${record.ttl ?? 0} IN ${type} ${dataText(record)}`;
}

function dataText(record: Exclude<Answer, { readonly type: "OPT" }>): string {
  if (record.type === "A" || record.type === "AAAA") return record.data;
  if (record.type === "CNAME" || record.type === "NS" || record.type === "PTR") return `${record.data}.`;
  if (record.type === "SRV") {
    const { priority = 0, weight = 0, port, target } = record.data;
    return `${priority} ${weight} ${port} ${target}.`;
  }
  if (record.type === "SOA") {
    const { mname, rname, serial = 0, refresh = 0, retry = 0, expire = 0, minimum = 0 } = record.data;
    return `${mname}. ${rname}. ${serial} ${refresh} ${retry} ${expire} ${minimum}`;
  }
  if (record.type === "TXT") return [record.data].flat().map(quoted).join(" ");
  if (Buffer.isBuffer(record.data)) return `\\# ${record.data.length} ${record.data.toString("hex")}`;
  throw new Error(`no zone file here has ${record.type}`);
}

function quoted(text: string | Buffer): string {
  const escaped = [...Buffer.from(text)].map((byte) =>
    byte < 32 || byte > 126 || byte === 34 || byte === 92 ? `\\${String(byte).padStart(3, "0")}` : String.fromCharCode(byte),
  );
  return `"${escaped.join("")}"`;
}
