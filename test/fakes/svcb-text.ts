/** The data of SVCB and HTTPS records as text, read from bytes as RFC 9460 says, because dns-packet does not know these types. */
import { isIPv6 } from "node:net";

const KEYS = ["mandatory", "alpn", "no-default-alpn", "port", "ipv4hint", "ech", "ipv6hint"];

/** Throws where the data is not well-formed: keys out of order, a name that is compressed, bytes left over. */
export function svcbText(data: Uint8Array): string {
  const bytes = Buffer.from(data);
  const labels: string[] = [];
  let at = 2;
  for (let length = bytes.readUInt8(at); length > 0; length = bytes.readUInt8(at)) {
    if (length > 63) throw new Error("the name of an SVCB record is compressed");
    labels.push(bytes.toString("latin1", at + 1, at + 1 + length));
    at += 1 + length;
  }
  at += 1;
  const words = [String(bytes.readUInt16BE(0)), `${labels.join(".")}.`];
  for (let last = -1; at < bytes.length; ) {
    const key = bytes.readUInt16BE(at);
    const end = at + 4 + bytes.readUInt16BE(at + 2);
    if (key <= last || end > bytes.length) throw new Error(`the parameter ${key} of an SVCB record is out of order or too long`);
    words.push(parameterText(key, bytes.subarray(at + 4, end)));
    [at, last] = [end, key];
  }
  return words.join(" ");
}

function parameterText(key: number, value: Buffer): string {
  const name = KEYS[key] ?? `key${key}`;
  switch (name) {
    case "mandatory":
      return `${name}=${parts(value, 2, (part) => KEYS[part.readUInt16BE(0)] ?? "?")}`;
    case "alpn":
      return `${name}="${alpnText(value)}"`;
    case "port":
      return `${name}=${value.readUInt16BE(0)}`;
    case "ipv4hint":
      return `${name}=${parts(value, 4, (part) => part.join("."))}`;
    case "ipv6hint":
      return `${name}=${parts(value, 16, ipv6Text)}`;
    default:
      return name;
  }
}

function parts(value: Buffer, size: number, text: (part: Buffer) => string): string {
  if (value.length === 0 || value.length % size !== 0) throw new Error(`${value.length} bytes are no list of ${size} bytes each`);
  return Array.from({ length: value.length / size }, (_, i) => text(value.subarray(i * size, (i + 1) * size))).join(",");
}

function alpnText(value: Buffer): string {
  const ids: string[] = [];
  for (let at = 0; at < value.length; at += 1 + value.readUInt8(at))
    ids.push(value.toString("latin1", at + 1, at + 1 + value.readUInt8(at)));
  return ids.join(",");
}

function ipv6Text(part: Buffer): string {
  const groups = Array.from({ length: 8 }, (_, i) => part.readUInt16BE(2 * i).toString(16)).join(":");
  const url = new URL(`http://[${groups}]`).hostname.slice(1, -1);
  return isIPv6(url) ? url : groups;
}
