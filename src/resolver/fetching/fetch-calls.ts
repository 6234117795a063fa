/** The calls for names that are under way at upstream servers: the pages of each answer that are here, within a bound of bytes (semantics.md, Resolver 12). */
import type { WholeName } from "../../catalog/query/instances.ts";
import type { CatalogRecord } from "../../catalog/record/record.ts";
import { joinUnreachable, type UnreachableNodes } from "../../catalog/unreachable-nodes.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import type { FetchedPage } from "../codec.ts";
import type { CallNumber, ResolverOrder } from "../io-types.ts";
import type { FetchedCache } from "./fetched-cache.ts";
import type { FetchOutcome } from "./shared-fetches.ts";

/** When a caller may ask again. */
export const NOT_READY_RETRY_MS = 250;
/** What only this upstream may lack. One that is slow has used up the time of who waits. */
const COULD_NOT: ReadonlySet<string> = new Set(["not_ready", "draining", "store_unavailable"]);
/** Most pages of the answer to one name. */
const MAX_PAGES = 1000;

interface FetchCall {
  readonly name: WholeName;
  /** Who was asked last. */
  upstream: string;
  /** It is the second one that was asked: no third one is, so that what all refuse costs two calls, however many upstreams there are. */
  isSecond: boolean;
  entries: Uint8Array[];
  sizeBytes: number;
  pageCount: number;
  /** When the page was asked for that has not come yet. */
  askedMonoMs: number;
  /** When the server's data was as the oldest page shows it, by the account of the server. */
  asOfMonoMs: number;
  /** Nodes that the age of at least one page does not include. */
  unreachable: UnreachableNodes | undefined;
}

export class FetchCalls {
  readonly #fetched: FetchedCache;
  readonly #maxBytes: number;
  readonly #calls = new Map<CallNumber, FetchCall>();
  /** Of answers of which not all pages are here. */
  #arrivedBytes = 0;
  #count = 0;

  /** `maxBytes`: of all pages of answers that are not whole. */
  constructor(fetched: FetchedCache, maxBytes: number) {
    this.#fetched = fetched;
    this.#maxBytes = maxBytes;
  }

  /** Calls for a name, unless it is being fetched: then `told` is told with the others. */
  begin(
    { namespace, name: its }: WholeName,
    told: (outcome: FetchOutcome<readonly CatalogRecord[]>) => void,
    upstream: string,
    { monoMs }: Time,
    out: ResolverOrder[],
  ): void {
    const name = { namespace, name: its };
    if (!this.#fetched.wait(name, told)) return;
    this.#count += 1;
    const asked = { askedMonoMs: monoMs, asOfMonoMs: Number.POSITIVE_INFINITY, unreachable: undefined };
    this.#calls.set(this.#count, { name, upstream, isSecond: false, entries: [], sizeBytes: 0, pageCount: 0, ...asked });
    out.push({ kind: "fetch", call: this.#count, upstream, name, pageToken: "" });
  }

  /** Who was called. Undefined for a call that is over. */
  upstreamOf(call: CallNumber): string | undefined {
    return this.#calls.get(call)?.upstream;
  }

  /** Asks the first other one of these upstreams, from the first page on, if the first one could not answer. Returns whether it did. */
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

  /** Takes a page of an answer, of this size on the wire. */
  take(call: CallNumber, page: FetchedPage, sizeBytes: number, time: Time, out: ResolverOrder[]): void {
    const fetch = this.#calls.get(call);
    if (fetch === undefined) return;
    const { name, upstream, entries } = fetch;
    entries.push(...page.entries);
    fetch.pageCount += 1;
    fetch.sizeBytes += sizeBytes;
    this.#arrivedBytes += sizeBytes;
    if (this.#arrivedBytes > this.#maxBytes) return this.failed(call, tooLarge(fetch.sizeBytes));
    // The server said it after it was asked, whatever delayed it on its way here.
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

/** The refusal of whoever waits for a name whose answer has more bytes than there may be. */
function tooLarge(sizeBytes: number): WaymarkError {
  const message = `the answers that are arriving have more bytes than this resolver may hold (resolver.max_bytes), ${sizeBytes} of them for this name`;
  return new WaymarkError("not_ready", message, { retryMs: NOT_READY_RETRY_MS });
}
