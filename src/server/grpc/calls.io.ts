/** What every gRPC call needs, of whatever kind: its message from bytes, and a timer. */
import { type DescMessage, fromBinary, type Message } from "@bufbuild/protobuf";
import type { Inflated } from "../../grpc/wire/encoding.ts";
import { invalid, WaymarkError } from "../../lib/errors.ts";

export type Request = Message | WaymarkError;
export type Response = Message | Uint8Array;

/** The message, or why its bytes are none. */
export function decodeRequest(desc: DescMessage, bytes: Uint8Array): Request {
  try {
    return fromBinary(desc, bytes);
  } catch (cause) {
    return invalid("request", `not the bytes of a ${desc.typeName} (${cause instanceof Error ? cause.message : "unreadable"})`);
  }
}

/** As `decodeRequest`, of a message that was compressed. */
export function requestOf(desc: DescMessage, inflated: Inflated): Request {
  return inflated instanceof WaymarkError ? inflated : decodeRequest(desc, inflated);
}

/** Longest delay a Node timer takes. */
const MAX_DELAY_MS = 2 ** 31 - 1;

/** Runs `expire` after so many ms; returns what cancels it. */
export function later(expire: () => void, delayMs: number): () => void {
  const timer = setTimeout(expire, Math.min(delayMs, MAX_DELAY_MS));
  return () => clearTimeout(timer);
}
