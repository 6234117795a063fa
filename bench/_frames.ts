/** HTTP/2 frames and protobuf fields as the load drivers need them: written by hand, so that driving costs less than serving. */

export const FRAME = { DATA: 0, HEADERS: 1, RESET: 3, SETTINGS: 4, PING: 6, GOAWAY: 7, WINDOW_UPDATE: 8 } as const;
export const FLAG = { ACK: 1, END_STREAM: 1, END_HEADERS: 4, PADDED: 8 } as const;
export const HEAD_BYTES = 9;
export const MAX_FRAME_BYTES = 16_384;

export function frame(type: number, flags: number, streamId: number, payload: Uint8Array): Buffer {
  const out = Buffer.allocUnsafe(HEAD_BYTES + payload.length);
  out.writeUIntBE(payload.length, 0, 3);
  out[3] = type;
  out[4] = flags;
  out.writeUInt32BE(streamId, 5);
  out.set(payload, HEAD_BYTES);
  return out;
}

export function uint32(value: number): Buffer {
  const out = Buffer.allocUnsafe(4);
  out.writeUInt32BE(value);
  return out;
}

/** One SETTINGS value. */
export function setting(id: number, value: number): Buffer {
  const out = Buffer.allocUnsafe(6);
  out.writeUInt16BE(id);
  out.writeUInt32BE(value, 2);
  return out;
}

function hpackText(text: string): Buffer {
  const bytes = Buffer.from(text);
  if (bytes.length > 126) throw new Error(`header of ${bytes.length} bytes: the driver writes lengths in one byte`);
  return Buffer.concat([Buffer.from([bytes.length]), bytes]);
}

/** The header block of a gRPC call; literals without indexing, so that it is the same for every call of a path. `token`: a bearer's. */
export function callHeaders(authority: string, path: string, token = ""): Buffer {
  return Buffer.concat([
    Buffer.from([0x83, 0x86, 0x04]),
    hpackText(path),
    Buffer.from([0x01]),
    hpackText(authority),
    Buffer.from([0x0f, 0x10]),
    hpackText("application/grpc"),
    Buffer.from([0x00]),
    hpackText("te"),
    hpackText("trailers"),
    ...(token === "" ? [] : [Buffer.from([0x00]), hpackText("authorization"), hpackText(`Bearer ${token}`)]),
  ]);
}

/** A message behind gRPC's own five bytes. */
export function grpcFrame(message: Uint8Array): Buffer {
  const out = Buffer.allocUnsafe(5 + message.length);
  out[0] = 0;
  out.writeUInt32BE(message.length, 1);
  out.set(message, 5);
  return out;
}

/** How often a length-delimited or varint field with this tag is in the message, at its top level. */
// HOT: once a delivered message; decoding it instead would make the driver the limit.
export function countField(bytes: Uint8Array, start: number, end: number, tag: number): number {
  let count = 0;
  let at = start;
  while (at < end) {
    let key = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++] ?? 0;
      key |= (byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    if (key === tag) count += 1;
    const wire = key & 7;
    if (wire === 1) at += 8;
    else if (wire === 5) at += 4;
    else {
      let value = 0;
      for (let scale = 1; ; scale *= 128) {
        const byte = bytes[at++] ?? 0;
        value += (byte & 0x7f) * scale;
        if (byte < 0x80) break;
      }
      if (wire === 2) at += value;
    }
  }
  return count;
}

/** The bytes of every length-delimited field with this number, at the top level. */
export function fieldsOf(bytes: Buffer, wanted: number): readonly Buffer[] {
  const found: Buffer[] = [];
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++] ?? 0;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
  };
  while (at < bytes.length) {
    const key = varint();
    const wire = key & 7;
    if (wire === 1) at += 8;
    else if (wire === 5) at += 4;
    else {
      const value = varint();
      if (wire !== 2) continue;
      if (key >>> 3 === wanted) found.push(bytes.subarray(at, at + value));
      at += value;
    }
  }
  return found;
}

/** One protobuf field: a number as varint, text and bytes with their length. */
export function field(number: number, value: number | string | Uint8Array): Buffer {
  if (typeof value === "number") return Buffer.concat([varintBytes(number * 8), varintBytes(value)]);
  const bytes = typeof value === "string" ? Buffer.from(value) : value;
  return Buffer.concat([varintBytes(number * 8 + 2), varintBytes(bytes.length), bytes]);
}

function varintBytes(value: number): Buffer {
  const out: number[] = [];
  let left = value;
  for (; left >= 0x80; left = Math.floor(left / 128)) out.push((left % 128) | 0x80);
  out.push(left);
  return Buffer.from(out);
}
