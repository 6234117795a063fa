/**
 * Periodically compares the digest of each followed prefix with the upstream's digest (semantics.md, Resolver 20). Each prefix is checked once per
 * interval, and the checks are spread over the interval. A prefix whose digest differs twice in a row is fetched again.
 */
import type { EntryStamper } from "../../catalog/entry/codec.ts";
import { ANY } from "../../catalog/query/filter.ts";
import { NamespacePrefixes } from "../../catalog/query/prefixes.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import { WatchReader } from "../../catalog/watch/reader.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { PolicyEngine } from "../../policy/versions/engine.ts";
import type { UpstreamWatchMessage } from "../codec.ts";
import type { WatchBookmarks } from "../watching/bookmarks.ts";
import type { StreamNumber, UpstreamWatches, WatchOrders } from "../watching/upstream-watches.ts";
import type { WatchedCatalog } from "../watching/watched-catalog.ts";
import { DigestCheck, type DigestVerdict } from "./digest-check.ts";

export interface DigestRoundsParts {
  readonly replica: Replica;
  readonly bookmarks: WatchBookmarks;
  readonly followed: WatchedCatalog;
  readonly watches: UpstreamWatches;
  readonly policies: PolicyEngine;
  readonly stamper: Pick<EntryStamper, "entryOfStored">;
  /** Interval within which each prefix is checked once. */
  readonly intervalMs: number;
  /** Returns a random number x, 0 ≤ x < 1. */
  readonly random: () => number;
}

interface DigestTurn {
  readonly prefix: string;
  readonly reader: WatchReader;
  /** Whether the local digest is complete, so that only a bookmark is missing. */
  isSummed: boolean;
}

interface RunningCheck {
  readonly check: DigestCheck;
  readonly stream: StreamNumber;
  readonly sinceMonoMs: number;
}

/** A check without a verdict is aborted after this time. */
const GIVEN_UP_MS = 10_000;
/** Pause between two steps of the local digest computation. Each step hashes a few thousand entries. */
const STEP_MS = 20;
/** Placeholder for the reader's location, which is unused because the filter has no scope. */
const NOWHERE = { nodeId: "", clusterId: "", region: "", boot: "" };

export class DigestRounds {
  readonly #parts: DigestRoundsParts;
  #dueMonoMs: number;
  /** The prefix that was checked last. */
  #last = "";
  #turn: DigestTurn | undefined;
  #running: RunningCheck | undefined;
  /** The prefix whose digest differed in its last check. */
  #suspect: string | undefined;

  constructor(parts: DigestRoundsParts, { monoMs }: Time) {
    this.#parts = parts;
    // Resolvers that start at the same time must not start their checks at the same time.
    this.#dueMonoMs = monoMs + parts.intervalMs * parts.random();
  }

  nextDeadlineMs(): number {
    if (this.#running !== undefined) return this.#running.sinceMonoMs + GIVEN_UP_MS;
    return this.#turn?.isSummed === true ? NEVER : this.#dueMonoMs;
  }

  /** Begins the check that is due, if the followed entries match an upstream bookmark. */
  adjust(upstream: string | undefined, prefixes: NamespacePrefixes, time: Time, out: WatchOrders): void {
    if (this.#running !== undefined) {
      if (time.monoMs - this.#running.sinceMonoMs >= GIVEN_UP_MS) this.#end(out);
      return;
    }
    if (time.monoMs < this.#dueMonoMs) return;
    if (this.#turn === undefined || !prefixes.list.includes(this.#turn.prefix)) this.#turn = this.#turnOf(prefixes, time);
    if (this.#turn === undefined) return;
    this.#turn.isSummed = this.#turn.reader.prepareDigest();
    if (!this.#turn.isSummed) {
      this.#dueMonoMs = time.monoMs + STEP_MS;
      return;
    }
    if (upstream !== undefined) this.#begin(this.#turn, { upstream, prefixes }, time, out);
  }

  /**
   * Processes a message of a stream. Returns the prefixes that must be fetched again, or undefined if the stream does not belong to a check. Throws
   * `invalid_argument` for a malformed message.
   */
  receive(stream: StreamNumber, message: UpstreamWatchMessage, time: Time, out: WatchOrders): readonly string[] | undefined {
    const running = this.#running;
    if (running?.stream !== stream) return undefined;
    const verdict = running.check.receive(message);
    if (verdict === undefined) return [];
    this.#end(out);
    return this.#onVerdict(running.check.prefix, verdict, time);
  }

  /** Records that a stream ended. */
  ended(stream: StreamNumber): void {
    if (this.#running?.stream === stream) this.#forget();
  }

  /** Aborts the running check, because the upstream is no longer used. */
  leave(out: WatchOrders): void {
    if (this.#running !== undefined) this.#end(out);
  }

  #onVerdict(prefix: string, verdict: DigestVerdict, { monoMs }: Time): readonly string[] {
    const wasSuspect = this.#suspect === prefix;
    this.#suspect = verdict === "differs" && !wasSuspect ? prefix : undefined;
    // The prefix is checked again immediately, because a single difference may be caused by a policy that comes into force at different times on this
    // resolver and the upstream.
    if (this.#suspect !== undefined) this.#dueMonoMs = monoMs;
    return verdict === "differs" && wasSuspect ? [prefix] : [];
  }

  #turnOf({ list }: NamespacePrefixes, { monoMs }: Time): DigestTurn | undefined {
    const suspect = this.#suspect !== undefined && list.includes(this.#suspect) ? this.#suspect : undefined;
    const prefix = suspect ?? list.find((each) => each > this.#last) ?? list[0];
    if (prefix === undefined) {
      this.#dueMonoMs = monoMs + this.#parts.intervalMs;
      return undefined;
    }
    this.#last = prefix;
    const filter = { ...ANY, resolved: new NamespacePrefixes([prefix]) };
    const options = { filter, name: "", hash: "", allowed: () => true, policyEpoch: () => "", isNamesOnly: false, withDigest: true };
    return { prefix, reader: new WatchReader(options, this.#parts.replica, NOWHERE), isSummed: false };
  }

  #begin(
    { prefix, reader }: DigestTurn,
    { upstream, prefixes }: { upstream: string; prefixes: NamespacePrefixes },
    time: Time,
    out: WatchOrders,
  ): void {
    const { watches, bookmarks, policies, followed, replica, stamper, intervalMs } = this.#parts;
    const { place } = watches;
    const own = reader.digest();
    if (place === undefined || own === undefined || !bookmarks.isAtBookmark || !watches.isComplete(prefix)) return;
    const stream = watches.takeStream();
    const { epoch: policyEpoch } = policies.policy;
    const check = new DigestCheck({ prefix, own, policyEpoch, stamper, view: (key) => replica.view(key) });
    followed.onTouch = (key, namespace, seen) => check.touch(key, namespace, seen);
    this.#running = { check, stream, sinceMonoMs: time.monoMs };
    this.#turn = undefined;
    this.#dueMonoMs = time.monoMs + intervalMs / prefixes.list.length;
    out.push({ kind: "open", stream, upstream, prefixes: [prefix], cursor: place.text, withDigest: true });
  }

  #end(out: WatchOrders): void {
    if (this.#running !== undefined) out.push({ kind: "close", stream: this.#running.stream });
    this.#forget();
  }

  #forget(): void {
    this.#running = undefined;
    this.#parts.followed.onTouch = undefined;
  }
}
