/** Formats DNS record data that dns-packet returns as bytes in the same way as zone files. */

/** Returns the zone-file form of record data. Uses the generic form of RFC 3597 for malformed data and for types without their own form. */
export function bytesText(type: string, bytes: Uint8Array): string {
  const data = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    const text = FORMS[type]?.(data);
    if (text !== undefined) return text;
  } catch {
    // The data is shorter than its length fields specify.
  }
  return `\\# ${data.length} ${data.toString("hex")}`.trimEnd();
}

const FORMS: Readonly<Record<string, (data: Buffer) => string>> = {
  CDS: (data) => `${data.readUInt16BE(0)} ${data.readUInt8(2)} ${data.readUInt8(3)} ${data.toString("hex", 4)}`,
  CDNSKEY: (data) => `${data.readUInt16BE(0)} ${data.readUInt8(2)} ${data.readUInt8(3)} ${data.toString("base64", 4)}`,
  UNKNOWN_64: bindingText,
  UNKNOWN_65: bindingText,
};

/** SVCB and HTTPS (RFC 9460, 2.1 and 2.2): `1 web.example. alpn="h2" port=8443`. */
function bindingText(data: Buffer): string {
  const words = [String(data.readUInt16BE(0))];
  let at = 2;
  let target = "";
  for (let length = data.readUInt8(at++); length > 0; length = data.readUInt8(at++)) {
    target += `${escaped(take(length), "label")}.`;
  }
  words.push(target || ".");
  while (at < data.length) {
    const [key, length] = [data.readUInt16BE(at), data.readUInt16BE(at + 2)];
    at += 4;
    words.push(parameterText(key, take(length)));
  }
  return words.join(" ");

  function take(length: number): Buffer {
    if (at + length > data.length) throw new RangeError("unexpected end of data");
    at += length;
    return data.subarray(at - length, at);
  }
}

/** Parameter keys by number (RFC 9460, 14.3.2). */
const KEYS = ["mandatory", "alpn", "no-default-alpn", "port", "ipv4hint", "ech", "ipv6hint"];

function parameterText(key: number, value: Buffer): string {
  const name = KEYS[key] ?? `key${key}`;
  if (value.length === 0) return name;
  if (name === "mandatory") return `${name}=${parts(value, 2, (part) => KEYS[part.readUInt16BE(0)] ?? `key${part.readUInt16BE(0)}`)}`;
  if (name === "alpn") return `${name}="${alpnText(value)}"`;
  if (name === "port") return `${name}=${value.readUInt16BE(0)}`;
  if (name === "ipv4hint") return `${name}=${parts(value, 4, (part) => part.join("."))}`;
  if (name === "ipv6hint") return `${name}=${parts(value, 16, ipv6Text)}`;
  return name === "ech" ? `${name}=${value.toString("base64")}` : `${name}="${escaped(value, "text")}"`;
}

function parts(value: Buffer, size: number, textOf: (part: Buffer) => string): string {
  if (value.length % size !== 0) throw new RangeError("unexpected end of data");
  return Array.from({ length: value.length / size }, (_, i) => textOf(value.subarray(i * size, (i + 1) * size))).join(",");
}

function alpnText(value: Buffer): string {
  const ids: string[] = [];
  for (let at = 0; at < value.length; ) {
    const end = at + 1 + value.readUInt8(at);
    if (end > value.length) throw new RangeError("unexpected end of data");
    ids.push(escaped(value.subarray(at + 1, end), "text"));
    at = end;
  }
  return ids.join(",");
}

/** Formats an IPv6 address according to RFC 5952. */
function ipv6Text(bytes: Buffer): string {
  return new URL(`http://[${bytes.toString("hex").replaceAll(/(.{4})(?=.)/g, "$1:")}]`).hostname.slice(1, -1);
}

/** Bytes that need not be escaped in a label or in quoted text. In a list, a comma would separate items. */
const PLAIN = { label: /^[\w*/+:-]$/, text: /^[!#-+\--[\]-~]$/ };

/** All other bytes are written as `\\DDD` (RFC 1035, 5.1). */
function escaped(bytes: Uint8Array, place: keyof typeof PLAIN): string {
  const texts = Array.from(bytes, (byte) => {
    const char = String.fromCharCode(byte);
    return PLAIN[place].test(char) ? char : `\\${String(byte).padStart(3, "0")}`;
  });
  return texts.join("");
}
