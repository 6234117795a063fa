/** Open fetches at upstream servers, with the pages of each answer that have arrived, within a bound of bytes (semantics.md, Resolver 12). */
import type { WholeName } from "../../catalog/query/instances.ts";
import type { CatalogRecord } from "../../catalog/record/record.ts";
import { joinUnreachable, type UnreachableNodes } from "../../catalog/unreachable-nodes.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import type { FetchedPage } from "../codec.ts";
import type { CallNumber, ResolverOrder } from "../io-types.ts";
import type { FetchedCache } from "./fetched-cache.ts";
import type { FetchOutcome } from "./shared-fetches.ts";

/** Pause before a caller should retry. */
export const NOT_READY_RETRY_MS = 250;
/**
 * Errors after which another upstream is tried, because only this upstream may be affected. A timeout is not among them, because it has used up the caller's
 * time.
 */
const COULD_NOT: ReadonlySet<string> = new Set(["not_ready", "draining", "store_unavailable"]);
/** Maximum number of pages of an answer. */
const MAX_PAGES = 1000;

interface FetchCall {
  readonly name: WholeName;
  /** The upstream that was called last. */
  upstream: string;
  /**
   * Whether this is the second upstream. No third upstream is called, so a fetch that all upstreams refuse costs two calls, however many upstreams there are.
   */
  isSecond: boolean;
  entries: Uint8Array[];
  sizeBytes: number;
  pageCount: number;
  /** When the page that is still missing was requested. */
  askedMonoMs: number;
  /** Monotonic time at which the data of the oldest page was current, as reported by the server. */
  asOfMonoMs: number;
  /** Nodes that the age of at least one page does not include. */
  unreachable: UnreachableNodes | undefined;
}

export class FetchCalls {
  readonly #fetched: FetchedCache;
  readonly #maxBytes: number;
  readonly #calls = new Map<CallNumber, FetchCall>();
  /** Bytes of incomplete answers. */
  #arrivedBytes = 0;
  #count = 0;

  /** `maxBytes` bounds the pages of all incomplete answers. */
  constructor(fetched: FetchedCache, maxBytes: number) {
    this.#fetched = fetched;
    this.#maxBytes = maxBytes;
  }

  /** Fetches a name, unless a fetch of it is running. `onOutcome` is called when the fetch ends, in either case. */
  begin(
    { namespace, name: its }: WholeName,
    onOutcome: (outcome: FetchOutcome<readonly CatalogRecord[]>) => void,
    upstream: string,
    { monoMs }: Time,
    out: ResolverOrder[],
  ): void {
    const name = { namespace, name: its };
    if (!this.#fetched.wait(name, onOutcome)) return;
    this.#count += 1;
    const asked = { askedMonoMs: monoMs, asOfMonoMs: Number.POSITIVE_INFINITY, unreachable: undefined };
    this.#calls.set(this.#count, { name, upstream, isSecond: false, entries: [], sizeBytes: 0, pageCount: 0, ...asked });
    out.push({ kind: "fetch", call: this.#count, upstream, name, pageToken: "" });
  }

  /** Returns the upstream of a call. Undefined when the call is over. */
  upstreamOf(call: CallNumber): string | undefined {
    return this.#calls.get(call)?.upstream;
  }

  /** If the first upstream could not answer, calls another of these upstreams, beginning with the first page. Returns whether it did. */
  askNext(call: CallNumber, { reason }: WaymarkError, upstreams: readonly string[], { monoMs }: Time, out: ResolverOrder[]): boolean {
    const fetch = this.#calls.get(call);
    const upstream = upstreams.find((each) => each !== fetch?.upstream);
    if (fetch === undefined || fetch.isSecond || upstream === undefined || !COULD_NOT.has(reason)) return false;
    this.#arrivedBytes -= fetch.sizeBytes;
    const anew = {
      entries: [],
      sizeBytes: 0,
      pageCount: 0,
      askedMonoMs: monoMs,
      asOfMonoMs: Number.POSITIVE_INFINITY,
      unreachable: undefined,
    };
    Object.assign(fetch, { ...anew, upstream, isSecond: true });
    out.push({ kind: "fetch", call, upstream, name: fetch.name, pageToken: "" });
    return true;
  }

  /** Adds a page of an answer. `sizeBytes` is its encoded size. */
  take(call: CallNumber, page: FetchedPage, sizeBytes: number, time: Time, out: ResolverOrder[]): void {
    const fetch = this.#calls.get(call);
    if (fetch === undefined) return;
    const { name, upstream, entries } = fetch;
    entries.push(...page.entries);
    fetch.pageCount += 1;
    fetch.sizeBytes += sizeBytes;
    this.#arrivedBytes += sizeBytes;
    if (this.#arrivedBytes > this.#maxBytes) return this.failed(call, tooLarge(fetch.sizeBytes));
    // The server sent the age after the request, however long the answer was delayed, so the age is counted from the request.
    fetch.asOfMonoMs = Math.min(fetch.asOfMonoMs, fetch.askedMonoMs - page.ageMs);
    fetch.unreachable = joinUnreachable(fetch.unreachable, page.unreachable);
    if (page.nextPageToken !== "" && fetch.pageCount < MAX_PAGES) {
      fetch.askedMonoMs = time.monoMs;
      out.push({ kind: "fetch", call, upstream, name, pageToken: page.nextPageToken });
      return;
    }
    this.#fetched.arrived(name, entries, { ...page, ageMs: time.monoMs - fetch.asOfMonoMs, unreachable: fetch.unreachable }, time);
    this.#forget(call, fetch);
  }

  failed(call: CallNumber, error: WaymarkError): void {
    const fetch = this.#calls.get(call);
    if (fetch === undefined) return;
    this.#forget(call, fetch);
    this.#fetched.failed(fetch.name, error);
  }

  #forget(call: CallNumber, { sizeBytes }: FetchCall): void {
    this.#calls.delete(call);
    this.#arrivedBytes -= sizeBytes;
  }
}

/** Returns the error of callers that wait for a name whose answer exceeds the bound of bytes. */
function tooLarge(sizeBytes: number): WaymarkError {
  const message = `the answers being received exceed resolver.max_bytes (${sizeBytes} bytes so far for this name); retry, or raise resolver.max_bytes`;
  return new WaymarkError("not_ready", message, { retryMs: NOT_READY_RETRY_MS });
}
