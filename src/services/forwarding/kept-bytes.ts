/** The bytes that a request came in, kept with its message for whoever sends the request on. */
import { type DescMessage, type Message, toBinary } from "@bufbuild/protobuf";

/** The bytes that a request came in. */
const BYTES = Symbol("bytes");

interface Kept {
  [BYTES]?: Uint8Array;
}

/** Keeps the bytes of a request, which are sent on as they came: to encode it again would cost more than all else that forwarding does. */
export function keeping(request: Message & Kept, bytes: Uint8Array): Message {
  request[BYTES] = bytes;
  return request;
}

/** The bytes of a request, as they came if `keeping` has them. */
export function bytesOf(desc: DescMessage, request: Message & Kept): Uint8Array {
  return request[BYTES] ?? toBinary(desc, request);
}
