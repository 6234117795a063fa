/** Builds the parts of a node with the clocks, the random sources and the journal of this process. Does not open any socket. */
import { randomBytes, randomFillSync } from "node:crypto";
import { Leases } from "../catalog/leases.ts";
import type { EffectiveSettings } from "../config/load.ts";
import type { Settings } from "../config/settings.ts";
import { PolicySwitcher } from "../discovery/policy-switch.io.ts";
import { WatchWaker } from "../discovery/watch-waker.io.ts";
import { importRule } from "../fabric/borders/rules/rules.ts";
import { GENERATIONS_PER_S } from "../fabric/membership/local-member.ts";
import type { RootLog } from "../lib/log.io.ts";
import type { Time } from "../lib/machine.ts";
import type { Metrics } from "../lib/metrics/metrics.ts";
import type { StallAwareClock } from "../lib/stall-aware-clock.ts";
import { clockOfLoop, now } from "../lib/stall-aware-time.io.ts";
import type { AuditSink } from "../policy/audit/record.ts";
import { HISTORY_BOUNDS } from "../policy/versions/engine.ts";
import { openEphemeralJournal, openJournal } from "../store/journal/journal.io.ts";
import type { Journal } from "../store/journal/journal.ts";
import { openRooms, type RestoredRooms, type SummaryKeySources } from "./core/rooms.ts";
import { CoreDriver, type DriverPorts } from "./core-driver.io.ts";
import { isMarked } from "./fabric/members-file.io.ts";

/** The parts of a node and its driver. */
export interface NodeCore extends RestoredRooms {
  /** Functions that wake the readers of the catalog and, if any, the readers of summaries. */
  readonly wakeups: readonly WatchWaker[];
  /** Called when readers may have new data, or when there are new messages for read workers. */
  readonly wakes: Set<() => void>;
  readonly driver: CoreDriver;
  readonly journal: Journal;
  readonly metrics: Metrics;
  /** Records which caller performed which operation. Undefined in tests that do not need audit records. */
  readonly audit: Pick<AuditSink, "record"> | undefined;
  /** Applies the policy in force to the catalog and to watches. Resolves when every listener uses that policy. */
  switchPolicy(): Promise<void>;
  /** Resolves when every watch that keeps up has received the last policy change, so that the next change may begin. */
  policyDelivered(): Promise<void>;
}

export interface CoreOptions {
  readonly settings: Settings;
  /** The origin of each setting. Absent if all settings have their defaults. */
  readonly origins?: EffectiveSettings["origins"] | undefined;
  readonly log: RootLog;
  readonly version: string;
  /** Like `RegistrarOptions.stallClock`. The default is the clock of this process's event loop. */
  readonly stallClock?: StallAwareClock;
}

/** Makes a generation: seconds since 1970 in the high part and a random number in the low part, so generations of a node grow with time and never repeat. */
function newGeneration({ wallMs }: Pick<Time, "wallMs">): number {
  return Math.floor(wallMs / 1000) * GENERATIONS_PER_S + (randomBytes(4).readUInt32BE() % GENERATIONS_PER_S);
}

const TOKEN_BYTES = 12;
/**
 * Number of tokens that are made from one call for random bytes. A call for 12 bytes takes 5 µs, and a call for 3,000 bytes is only slightly
 * slower.
 */
const TOKENS = 256;

/** Returns a function that makes the random parts of lease ids. */
function tokens(): () => string {
  const bytes = Buffer.allocUnsafeSlow(TOKENS * TOKEN_BYTES);
  let at = bytes.length;
  return () => {
    if (at === bytes.length) {
      randomFillSync(bytes);
      at = 0;
    }
    at += TOKEN_BYTES;
    return bytes.toString("base64url", at - TOKEN_BYTES, at);
  };
}

/** Opens the data directory, or an in-memory journal with `--ephemeral`. */
export function openStore({ settings, log }: CoreOptions): Promise<Journal> {
  const { node, persistence } = settings;
  const made = { nodeId: node.id, newNodeId: () => `node-${randomBytes(4).toString("hex")}`, newGeneration: () => newGeneration(now()) };
  if (persistence.ephemeral) return Promise.resolve(openEphemeralJournal(made));
  return openJournal({ ...made, directory: persistence.dataDir, forceNewGeneration: persistence.newGeneration, log: log.child("journal") });
}

/** Stores that are opened before the parts are built. */
export type OpenedStores = Pick<NodeCore, "journal" | "metrics"> &
  Partial<Pick<NodeCore, "audit"> & { readonly seals: KeySources | undefined }>;

/** Keys of clusters, on a node that stores summaries. */
type KeySources = Pick<SummaryKeySources, "announcements" | "keys" | "signer">;

/** Builds the parts of a node and fills them with the records from the journal. */
export async function buildCore(options: CoreOptions, { journal, metrics, audit, seals: keys }: OpenedStores): Promise<NodeCore> {
  const { settings, log, version, stallClock = clockOfLoop() } = options;
  const leases = new Leases(randomBytes(4).readUInt32BE());
  const chance = { leases, newGeneration, newToken: tokens(), random: Math.random };
  const seals = keys && {
    keys: keys.keys,
    signer: keys.signer,
    announcements: () => keys.announcements(),
    imports: importsOf(settings.fabric.borders, settings.node.region, keys.keys),
    onAgain: () => readersOfSummaries?.kick(),
  };
  const process = { stallClock, metrics, audit, now, onAgain: () => wakeup.kick(), seals };
  const given = { settings, version, history: HISTORY_BOUNDS, isMarked: isMarked(settings), ...process, ...chance };
  const opening = openRooms(journal.restored, given, now());
  await journal.replay((row) => opening.row(row));
  if (opening.renewed !== undefined) await journal.renewGeneration(opening.renewed);
  const { rooms, againCount } = opening.finish();
  if (againCount > 0) log.child("journal").warn({ againCount }, "rewriting records that were stored under another region");
  const wakeup = new WatchWaker(rooms.fanout, now);
  const readersOfSummaries = rooms.regions && new WatchWaker(rooms.regions.reads.fanout, now);
  const wakeups = readersOfSummaries === undefined ? [wakeup] : [wakeup, readersOfSummaries];
  const wakes = new Set([() => wakeups.forEach((each) => each.kick())]);
  const driver = new CoreDriver(rooms.machine, driverPorts(options, journal, { metrics, wakes }));
  driver.follow(({ kind }) => {
    if (kind === "summariesFollowed") rooms.switches.onFollowed();
  });
  const switcher = new PolicySwitcher(rooms.switches, () => driver.show());
  const switching = { switchPolicy: () => switcher.run(), policyDelivered: () => switcher.heard() };
  return { ...rooms, wakeups, wakes, driver, journal, metrics, audit, ...switching };
}

/** Decides which summaries from other regions are shown, based on the borders in the settings. */
function importsOf(rows: Settings["fabric"]["borders"], here: string, keys: KeySources["keys"]): SummaryKeySources["imports"] {
  const isImported = importRule(rows.map(({ clusterId, import: imports }) => ({ clusterId, imports })));
  return (source, namespace) => keys.regionOf(source) === here || isImported(source, namespace);
}

/** Connects the orders of the machine to the journal. */
function driverPorts({ log }: CoreOptions, journal: Journal, { metrics, wakes }: Pick<NodeCore, "metrics" | "wakes">): DriverPorts {
  const commitMs = metrics.histogram("waymark_journal_commit_ms", {});
  const batchRecords = metrics.histogram("waymark_journal_batch_records", {});
  const nodeLog = log.child("node");
  return {
    now,
    write: (batch) => journal.write(batch),
    renewGeneration: (generation) => journal.renewGeneration(generation),
    onCommitted: (recordCount, tookMs) => {
      commitMs.observe(tookMs);
      batchRecords.observe(recordCount);
    },
    wake: () => {
      for (const wake of wakes) wake();
    },
    onRefused: (error) => nodeLog.error({ err: error }, "new generation not written, trying again"),
  };
}
