/** What a message from another node may be, beyond its shape: the rules of `fabric.proto`, and what they leave to its reader. */
import { PROTOCOL_BOUNDS } from "../../catalog/entry/names.ts";
import { Problems } from "../../catalog/entry/problems.ts";

/** Bounds of `fabric.proto` that senders know too: no honest node passes them. */
export const MESSAGE_BOUNDS = {
  /** Of a cluster token, in characters. */
  maxTokenLength: 1_024,
  /** Longest wait one may ask of another, in ms. */
  maxTimeoutMs: 60_000,
  /** Of what a peer tells people, in characters; more is cut. */
  maxDetailLength: 256,
  /** Of the records of a frame, unless it has one alone: the most that any version sends. */
  maxRecordsBytes: 65_536,
  /** Of what one frame between regions carries, unless that is one summary, beacon or key alone. */
  maxBatchBytes: 262_144,
} as const;

/** Gives back what breaks no rule. Throws `invalid_argument` naming the fields of what does. */
export function checked<Message>(message: Message, check: (message: Message, problems: Problems) => void): Message {
  const problems = new Problems(PROTOCOL_BOUNDS);
  check(message, problems);
  problems.throwIfAny();
  return message;
}

/** What a peer says to people: cut, and without surprises for a terminal; never a reason to refuse. */
export function detailField(text: string): string {
  return text.slice(0, MESSAGE_BOUNDS.maxDetailLength).replaceAll(/[^\x20-\x7e]/g, "?");
}
