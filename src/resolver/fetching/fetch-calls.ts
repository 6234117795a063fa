/** Open fetches from upstream servers and the received pages of each answer, bounded in bytes (semantics.md, Resolver 12). */
import type { WholeName } from "../../catalog/query/instances.ts";
import type { CatalogRecord } from "../../catalog/record/record.ts";
import { joinUnreachable, type UnreachableNodes } from "../../catalog/unreachable-nodes.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import type { FetchedPage } from "../codec.ts";
import type { CallNumber, ResolverOrder } from "../io-types.ts";
import type { FetchedCache } from "./fetched-cache.ts";
import type { FetchOutcome } from "./shared-fetches.ts";

/** How long a caller should wait before it retries. */
export const NOT_READY_RETRY_MS = 250;
/**
 * Errors after which another upstream is tried, because only the current upstream may be affected. Timeouts are not included, because they use up the
 * caller's time.
 */
const COULD_NOT: ReadonlySet<string> = new Set(["not_ready", "draining", "store_unavailable"]);
/** Maximum number of pages per answer. */
const MAX_PAGES = 1000;

interface FetchCall {
  readonly name: WholeName;
  /** The upstream that was called last. */
  upstream: string;
  /**
   * Whether `upstream` is the second upstream. A third upstream is never called, so a fetch that all upstreams refuse costs two calls, regardless of
   * the number of upstreams.
   */
  isSecond: boolean;
  entries: Uint8Array[];
  sizeBytes: number;
  pageCount: number;
  /** When the next missing page was requested. */
  askedMonoMs: number;
  /** Monotonic time at which the data of the oldest page was current, as reported by the server. */
  asOfMonoMs: number;
  /** Nodes that are excluded from the age of at least one page. */
  unreachable: UnreachableNodes | undefined;
}

export class FetchCalls {
  readonly #fetched: FetchedCache;
  readonly #maxBytes: number;
  readonly #calls = new Map<CallNumber, FetchCall>();
  /** Size of all incomplete answers, in bytes. */
  #arrivedBytes = 0;
  #count = 0;

  /** `maxBytes` limits the total size of the pages of all incomplete answers. */
  constructor(fetched: FetchedCache, maxBytes: number) {
    this.#fetched = fetched;
    this.#maxBytes = maxBytes;
  }

  /** Fetches a name, unless a fetch for the name is already running. In both cases, `onOutcome` is called when the fetch ends. */
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

  /** Returns the upstream of a call. Returns undefined when the call has ended. */
  upstreamOf(call: CallNumber): string | undefined {
    return this.#calls.get(call)?.upstream;
  }

  /**
   * If the first upstream could not answer, calls another of these upstreams, starting with the first page. Returns whether another upstream was
   * called.
   */
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

  /** Adds a page to an answer. `sizeBytes` is the page's encoded size. */
  take(call: CallNumber, page: FetchedPage, sizeBytes: number, time: Time, out: ResolverOrder[]): void {
    const fetch = this.#calls.get(call);
    if (fetch === undefined) return;
    const { name, upstream, entries } = fetch;
    entries.push(...page.entries);
    fetch.pageCount += 1;
    fetch.sizeBytes += sizeBytes;
    this.#arrivedBytes += sizeBytes;
    if (this.#arrivedBytes > this.#maxBytes) return this.failed(call, tooLarge(fetch.sizeBytes));
    // The server determined the age after the request was sent, even if the answer was delayed, so the age is counted from the request.
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

/** Returns the error for callers that wait for a name whose answer exceeds the size limit. */
function tooLarge(sizeBytes: number): WaymarkError {
  const message = `the answers being received exceed resolver.max_bytes (${sizeBytes} bytes so far for this name); retry, or raise resolver.max_bytes`;
  return new WaymarkError("not_ready", message, { retryMs: NOT_READY_RETRY_MS });
}
