/**
 * Implements PolicyService.WatchPolicy: first sends the versions that may be in force on a resolver, in parts, and then the epoch of the policy in
 * force on this server.
 */
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { WatchPolicyResponseSchema } from "../../../gen/waymark/policy/v1/policy_pb.js";
import type { Time } from "../../lib/machine.ts";
import type { HistoryItem } from "../../policy/versions/engine.ts";
import type { VersionPlace } from "../../policy/versions/version.ts";
import type { StreamSource } from "../service.ts";

/** Largest part of a version in one message, in bytes. */
const PART_BYTES = 128 * 1024;

export interface PolicyWatchParts {
  /** The stored versions, newest first, as in `PolicyEngine.history`. */
  readonly history: () => readonly HistoryItem[];
  /** Returns the epoch of the policy in force on this server. */
  readonly epoch: () => string;
  /** Returns the bytes of a version that is currently coming into force. Undefined for all other versions. */
  readonly encodedNow: (place: VersionPlace) => Uint8Array | undefined;
  /** Returns the bytes of a version. Undefined if another version has replaced it, or if it cannot be read now. Never rejects. */
  readonly encoded: (place: VersionPlace) => Promise<Uint8Array | undefined>;
  /** The versions that the reader has. */
  readonly known: readonly VersionPlace[];
  readonly servedBy: string;
  readonly via: readonly string[];
  /** Calls `wake` at each policy change, and also several times a second, until the returned function is called. */
  readonly onChange: (wake: () => void) => () => void;
}

type Message = MessageInitShape<typeof WatchPolicyResponseSchema>;

interface VersionInTransit {
  readonly place: VersionPlace;
  /** Undefined while the version is being read. */
  bytes: Uint8Array | undefined;
  offset: number;
}

/** One stream. The stream keeps the bytes of at most one version in memory. */
export class PolicyWatch implements StreamSource {
  readonly endsAtDrain = true;
  readonly #parts: PolicyWatchParts;
  /** The versions that the reader has, as texts returned by `nameOf`. */
  readonly #had: Set<string>;
  #sending: VersionInTransit | undefined;
  /** The last state sent to the reader. */
  #told = "";
  #wake: (() => void) | undefined;
  #forget: (() => void) | undefined;

  constructor(parts: PolicyWatchParts) {
    this.#parts = parts;
    this.#had = new Set(parts.known.map(nameOf));
  }

  attach(wake: () => void): void {
    this.#wake = wake;
    this.#forget = this.#parts.onChange(wake);
  }

  pull(_time: Time): Uint8Array | undefined {
    const message = this.#next();
    const { servedBy, via } = this.#parts;
    return message && toBinary(WatchPolicyResponseSchema, create(WatchPolicyResponseSchema, { ...message, servedBy, via: [...via] }));
  }

  close(): void {
    this.#forget?.();
    this.#sending = undefined;
  }

  #next(): Message | undefined {
    const versions = wantedOf(this.#parts.history());
    if (this.#sending === undefined) {
      const missing = versions.find((place) => !this.#had.has(nameOf(place)));
      if (missing === undefined) return this.#state(versions);
      this.#begin(missing);
    }
    return this.#sending === undefined ? undefined : this.#part(this.#sending);
  }

  #begin(place: VersionPlace): void {
    const sending: VersionInTransit = { place, bytes: this.#parts.encodedNow(place), offset: 0 };
    this.#sending = sending;
    if (sending.bytes === undefined) void this.#read(sending);
  }

  async #read(sending: VersionInTransit): Promise<void> {
    const bytes = await this.#parts.encoded(sending.place);
    if (this.#sending !== sending) return;
    sending.bytes = bytes;
    // Either another version has replaced this one and is read next, or the store is unreachable and the next pull tries again.
    if (bytes === undefined) this.#sending = undefined;
    else this.#wake?.();
  }

  #part(sending: VersionInTransit): Message | undefined {
    const { place, bytes, offset } = sending;
    if (bytes === undefined) return undefined;
    const part = bytes.subarray(offset, offset + PART_BYTES);
    sending.offset += part.length;
    if (sending.offset >= bytes.length) {
      this.#had.add(nameOf(place));
      this.#sending = undefined;
    }
    return { part: { place: wirePlace(place), offset, bytes: part, sizeBytes: bytes.length } };
  }

  #state(versions: readonly VersionPlace[]): Message | undefined {
    const policyEpoch = this.#parts.epoch();
    const told = [policyEpoch, ...versions.map(nameOf)].join("\n");
    if (told === this.#told) return undefined;
    this.#told = told;
    return { state: { versions: versions.map(wirePlace), policyEpoch } };
  }
}

/** Returns the newest version and, after each version with a stage, the next older one, which is in force for readers that are not in the stage. */
function wantedOf(history: readonly HistoryItem[]): readonly VersionPlace[] {
  const wanted: VersionPlace[] = [];
  for (const { facts, isSuperseded } of history) {
    if (facts === undefined || isSuperseded) continue;
    wanted.push(facts);
    if (facts.stage === undefined) break;
  }
  return wanted;
}

function wirePlace({ number, hlc, nodeId, checksum }: VersionPlace) {
  return { number: BigInt(number), hlc: BigInt(hlc), nodeId, checksum };
}

function nameOf({ number, hlc, nodeId, checksum }: VersionPlace): string {
  return `${number} ${hlc} ${checksum} ${nodeId}`;
}
