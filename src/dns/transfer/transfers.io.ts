/**
 * Zone transfers (AXFR, RFC 5936). Each transfer is built from a copy of the catalog, in slices of a few milliseconds, as fast as its client reads.
 */
import { setImmediate } from "node:timers/promises";
import { WaymarkError } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.io.ts";
import type { Metrics } from "../../lib/metrics/metrics.ts";
import { setsAt } from "../plan/answer.ts";
import type { DnsRecord, DnsSettings } from "../records/record.ts";
import { MAX_TARGETS } from "../subject/subject.ts";
import { dnsCatalog } from "../views/catalog.ts";
import type { ViewerOfView } from "../views/views.ts";
import { TsigChain, tsigBytes } from "../wire/tsig.ts";
import { type CopySources, ZoneCopy } from "./zone-copy.ts";
import type { EndedTransfer, RequestedTransfer, TransferRequest } from "./zone-messages.ts";
import { ZoneMessages } from "./zone-messages.ts";
import { zoneRecords } from "./zone-records.ts";

/** Limits for zone transfers, which are not configurable. */
export interface TransferLimits {
  readonly maxPerKey: number;
  readonly max: number;
  readonly maxMs: number;
  /** Maximum number of entries in a catalog that is copied. Each entry uses about 1 KB for the duration of the transfer. */
  readonly maxEntries: number;
}

const TRANSFER_LIMITS: TransferLimits = { maxPerKey: 2, max: 4, maxMs: 600_000, maxEntries: 250_000 };
/**
 * A slice ends after this number of steps (records, types of names, and skipped names) or after this time. A slice is longer for a name with many
 * entries, because one step reads all of its entries or builds all records of a type.
 */
const SLICE_STEPS = 1000;
const SLICE_MS = 4;
/** Maximum number of attempts to copy the catalog. A policy change restarts the copy. */
const MAX_COPIES = 3;

export interface TransfersOptions extends CopySources {
  readonly viewers: readonly ViewerOfView[];
  readonly settings: DnsSettings;
  readonly serialOf: (viewIndex: number) => number;
  readonly metrics: Metrics;
  readonly log: Log;
  /** Called when a transfer ends, and for each refused transfer. */
  readonly onEnd?: ((ended: EndedTransfer) => void) | undefined;
  readonly limits?: TransferLimits | undefined;
}

type MutableEnd = { -readonly [K in keyof EndedTransfer]: EndedTransfer[K] };

class TransferTimeout extends Error {}

/** Minimum time between log lines about refused transfers, because a secondary server may retry continuously. */
const REFUSED_SPACING_MS = 1000;

export class ZoneTransfers {
  readonly #options: TransfersOptions;
  readonly #limits: TransferLimits;
  readonly #running = new Map<string, number>();
  #count = 0;
  #refusedMs = Number.NEGATIVE_INFINITY;

  constructor(options: TransfersOptions) {
    this.#options = options;
    this.#limits = options.limits ?? TRANSFER_LIMITS;
  }

  get count(): number {
    return this.#count;
  }

  /** Returns whether one more transfer can start for this key. If not, the transfer is reported as refused. */
  mayBegin(asked: RequestedTransfer): boolean {
    const { max, maxPerKey, maxEntries } = this.#limits;
    const isFree = this.#count < max && (this.#running.get(asked.keyName) ?? 0) < maxPerKey;
    if (isFree && this.#options.reads.replica.lookup.size <= maxEntries) return true;
    this.#ended({
      ...asked,
      outcome: "refused",
      serial: this.#options.serialOf(asked.viewIndex),
      recordCount: 0,
      crowdedNameCount: 0,
      sizeBytes: 0,
    });
    const nowMs = performance.now();
    if (nowMs < this.#refusedMs + REFUSED_SPACING_MS) return false;
    this.#refusedMs = nowMs;
    this.#options.log.warn(this.#lineOf(asked), "zone transfer refused: too many transfers or catalog entries");
    return false;
  }

  #ended(ended: EndedTransfer): void {
    this.#options.metrics.inc("dns_transfers_total", { outcome: ended.outcome });
    this.#options.onEnd?.(ended);
  }

  /** Returns the fields that all log lines share. */
  #lineOf({ keyName: key, zone, viewIndex, address }: RequestedTransfer) {
    const { tenant, cluster } = this.#options.viewers[viewIndex]?.caller ?? {};
    return { zone, key, tenant, cluster, address };
  }

  /**
   * Returns the messages of a transfer. The consumer requests each message when it has buffer space, and cancels the transfer when it stops reading.
   */
  start(request: TransferRequest, address: string): AsyncIterable<Uint8Array> {
    const { keyName } = request.signing;
    this.#count += 1;
    this.#running.set(keyName, (this.#running.get(keyName) ?? 0) + 1);
    return this.#messages(request, address);
  }

  async *#messages(request: TransferRequest, address: string): AsyncGenerator<Uint8Array> {
    const { zone, signing, viewIndex } = request;
    const startedMs = performance.now();
    const asked = { keyName: signing.keyName, zone, viewIndex, address };
    const serial = this.#options.serialOf(viewIndex);
    const end: MutableEnd = { ...asked, outcome: "cut", serial, recordCount: 0, crowdedNameCount: 0, sizeBytes: 0 };
    try {
      const chain = new TsigChain(signing);
      for await (const message of this.#unsigned(request, end)) {
        if (performance.now() - startedMs > this.#limits.maxMs) throw new TransferTimeout("the transfer exceeded its time limit");
        const signed = chain.sign(message, Math.floor(Date.now() / 1000));
        end.sizeBytes += signed.length;
        yield signed;
      }
      end.outcome = "done";
    } catch (fault) {
      // The consumer then closes the connection, so that the client does not mistake this part for the complete zone.
      if (fault instanceof TransferTimeout) throw fault;
      end.outcome = "failed";
      this.#options.log.warn({ err: fault, ...this.#lineOf(asked) }, "zone transfer failed");
      throw fault;
    } finally {
      this.#count -= 1;
      const left = (this.#running.get(signing.keyName) ?? 1) - 1;
      if (left === 0) this.#running.delete(signing.keyName);
      else this.#running.set(signing.keyName, left);
      this.#ended(end);
      const { outcome, recordCount, crowdedNameCount, sizeBytes } = end;
      const durationMs = Math.round(performance.now() - startedMs);
      const line = { ...this.#lineOf(asked), outcome, serial, recordCount, crowdedNameCount, sizeBytes, durationMs };
      this.#options.log.info(line, "zone transfer ended");
    }
  }

  async *#unsigned(
    { id, question, opt, isPadded, signing, zone, viewIndex }: TransferRequest,
    end: MutableEnd,
  ): AsyncGenerator<Uint8Array> {
    const { settings, viewers, clusterId } = this.#options;
    const viewer = viewers[viewIndex];
    if (viewer === undefined) return;
    const { reads, dnsNames, policies } = await this.#copy();
    const { replica } = reads;
    const sources = { reads, dnsNames, policies, replica, identity: { clusterId }, mostEntries: MAX_TARGETS };
    const catalog = dnsCatalog(
      () => 0,
      sources,
      () => {},
      viewer,
    );
    const soa = [...setsAt(zone, zone, { catalog, settings })].flat().map((record) => withSerial(record, end.serial));
    const start = soa.filter(({ type }) => type === "SOA");
    const messages = new ZoneMessages({ id, question, opt, paddedWithBytes: isPadded ? tsigBytes(signing) : undefined });
    const slice = new WorkSlice();
    const onCrowded = (name: string) => this.#crowded(name, end);
    const groups = zoneRecords({ zone, catalog, lookup: replica.lookup, dnsNames, settings, onCrowded });
    for (const group of [start, groups, start].values()) {
      for (const records of Array.isArray(group) ? [group] : group) {
        for (const record of records) {
          end.recordCount += 1;
          yield* messages.add(record);
          if (slice.endsHere()) await slice.next();
        }
        if (slice.endsHere()) await slice.next();
      }
    }
    yield messages.end();
  }

  /** Handles a name with more targets than an answer may be drawn from. Only some of them are transferred, and the zone data cannot express this. */
  #crowded(name: string, end: MutableEnd): void {
    this.#options.metrics.inc("dns_transfer_crowded_names_total", {});
    end.crowdedNameCount += 1;
    // Further names are only counted. Their number is in the log line at the end of the transfer.
    if (end.crowdedNameCount === 1)
      this.#options.log.warn({ ...this.#lineOf(end), name }, "zone transfer incomplete: a name has too many targets");
  }

  async #copy(): Promise<ZoneCopy> {
    for (let left = MAX_COPIES; left > 0; left--) {
      const copy = new ZoneCopy(this.#options);
      try {
        while (!copy.isWhole && !copy.isOver) {
          const endMs = performance.now() + SLICE_MS;
          do copy.step();
          while (!copy.isWhole && !copy.isOver && performance.now() < endMs);
          if (!copy.isWhole) await setImmediate();
        }
      } finally {
        copy.close();
      }
      if (!copy.isOver) return copy;
    }
    throw new WaymarkError("not_ready", "zone copy failed: the policy changed during each attempt");
  }
}

/** A part of the work, after which the event loop can process other work. */
class WorkSlice {
  #stepCount = 0;
  #sinceMs = performance.now();

  /** Counts one step. Returns whether the slice must end. */
  endsHere(): boolean {
    return ++this.#stepCount >= SLICE_STEPS || performance.now() >= this.#sinceMs + SLICE_MS;
  }

  async next(): Promise<void> {
    await setImmediate();
    this.#stepCount = 0;
    this.#sinceMs = performance.now();
  }
}

function withSerial(record: DnsRecord, serial: number): DnsRecord {
  return record.type === "SOA" ? { ...record, data: { ...record.data, serial } } : record;
}
