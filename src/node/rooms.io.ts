/** Builds the rooms of a node from its settings and its journal; opens no socket. */
import { randomBytes } from "node:crypto";
import { performance } from "node:perf_hooks";
import { EntryStamper } from "../catalog/entry/codec.ts";
import { PROTOCOL_BOUNDS } from "../catalog/entry/names.ts";
import { Leases } from "../catalog/leases.ts";
import { Lookup } from "../catalog/query/lookup.ts";
import { Slab } from "../catalog/record/slab.ts";
import { TraitsPool } from "../catalog/record/traits.ts";
import { Replica } from "../catalog/replica/replica.ts";
import type { Settings } from "../config/settings.ts";
import { DnsNames, plainName } from "../discovery/dns-names.ts";
import { Fanout } from "../discovery/fanout.ts";
import { PolicySwitcher } from "../discovery/policy-switch.io.ts";
import { isAdmitted } from "../discovery/policy-switch.ts";
import { Reads } from "../discovery/reads.ts";
import { type CollectsBy, Registrar } from "../discovery/registrar/registrar.ts";
import { Restoring, restoreLeases, soundNumbers } from "../discovery/registrar/restore.ts";
import { SwitchQueue, type SwitchQueueParts } from "../discovery/switch-queue.ts";
import { Wakeup } from "../discovery/wakeup.io.ts";
import { GENERATIONS_PER_S } from "../fabric/membership/local-member.ts";
import { Hlc } from "../lib/hlc.ts";
import type { RootLog } from "../lib/log.io.ts";
import type { Time } from "../lib/machine.ts";
import type { Metrics } from "../lib/metrics/metrics.ts";
import type { Patience } from "../lib/patience.ts";
import { patienceOfLoop } from "../lib/patient-time.io.ts";
import type { AuditSink } from "../policy/audit/record.ts";
import type { RefusedAct } from "../policy/audit/refusals.ts";
import type { Quotas } from "../policy/limits/quotas.ts";
import type { OnDenied } from "../policy/set/visibility.ts";
import { HISTORY_BOUNDS, PolicyEngine } from "../policy/versions/engine.ts";
import type { NodeIdentity } from "../services/discovery/discovery.ts";
import { DiscoveryBytes } from "../services/discovery/response-bytes.ts";
import { openEphemeralJournal, openJournal } from "../store/journal/journal.io.ts";
import type { Journal } from "../store/journal/journal.ts";
import { AccessLog } from "./access-log.ts";
import { NodeMachine } from "./core.ts";
import { CoreDriver, type DriverPorts } from "./core-driver.io.ts";
import { NodeLimits } from "./limits.ts";

/** What the listeners need of a node's inside. */
export interface NodeCore {
  readonly identity: NodeIdentity;
  readonly listeners: Record<string, string>;
  readonly replica: Replica;
  readonly leases: Leases;
  readonly registrar: Registrar;
  readonly reads: Reads;
  readonly fanout: Fanout;
  readonly wakeup: Wakeup;
  readonly machine: NodeMachine;
  readonly driver: CoreDriver;
  readonly dnsNames: DnsNames;
  readonly stamper: EntryStamper;
  readonly hlc: Hlc;
  readonly bytes: DiscoveryBytes;
  readonly policies: PolicyEngine;
  readonly accessLog: AccessLog;
  readonly limits: NodeLimits;
  readonly journal: Journal;
  readonly metrics: Metrics;
  readonly audit: Pick<AuditSink, "record"> | undefined;
  /** Brings catalog and watches in line with the policy now in force; resolves when every listener shows it. */
  switchPolicy(): Promise<void>;
  /** The watches that take what they are given have heard of the change before: the next may begin. */
  policyHeard(): Promise<void>;
}

export interface CoreOptions {
  readonly settings: Settings;
  readonly log: RootLog;
  readonly version: string;
  /** As `RegistrarOptions.patience`; the clock of this process's loop unless given. */
  readonly patience?: Patience;
}

/** The process's two clocks. */
export function now(): Time {
  return { monoMs: performance.now(), wallMs: Date.now() };
}

/** Seconds since 1970 in the high part, chance in the low: never the same twice for one node, and growing with time. */
function newGeneration(): number {
  return Math.floor(Date.now() / 1000) * GENERATIONS_PER_S + (randomBytes(4).readUInt32BE() % GENERATIONS_PER_S);
}

function token(bytes: number): string {
  return randomBytes(bytes).toString("base64url");
}

/** Opens the data directory, or none with `--ephemeral`. */
export function openStore({ settings, log }: CoreOptions): Promise<Journal> {
  const { node, persistence } = settings;
  const made = { nodeId: node.id, newNodeId: () => `node-${randomBytes(4).toString("hex")}`, newGeneration };
  if (persistence.ephemeral) return Promise.resolve(openEphemeralJournal(made));
  return openJournal({ ...made, directory: persistence.dataDir, forceNewGeneration: persistence.newGeneration, log: log.child("journal") });
}

/** What is open before the rooms are built. */
export interface Opened {
  readonly journal: Journal;
  readonly metrics: Metrics;
  /** Where it is recorded who did what; in a test nowhere. */
  readonly audit?: Pick<AuditSink, "record"> | undefined;
}

/** The rooms, with what the journal kept back in them. */
export async function buildCore(options: CoreOptions, { journal, metrics, audit }: Opened): Promise<NodeCore> {
  const { settings } = options;
  const accessLog = new AccessLog(metrics, { sampleReads: settings.audit.sampleReads, wallMs: () => now().wallMs, audit });
  const policies = new PolicyEngine({ nodeId: journal.restored.nodeId, clusterId: settings.node.clusterId, ...HISTORY_BOUNDS });
  const lookup = new Lookup();
  const limits = new NodeLimits({ settings, metrics, policies, lookup, now, audit });
  const rules: WriteRules = { policies, onDenied: accessLog.onDenied, onRefused: (act) => limits.note(act), quotas: limits.quotas };
  // The machine is made of the rooms, and what may be collected is asked of it when time goes on.
  const collectsBy = () => machine.collectsBy(now());
  const { replica, leases, stamper, hlc, registrar } = buildCatalog(options, journal, { lookup, rules, collectsBy });
  const time = now();
  await replay(options, journal, { replica, leases, stamper, hlc, registrar }, time);
  const listeners: Record<string, string> = {};
  const identity = identityOf(options, journal, { listeners, time, replica });
  const fanout = new Fanout();
  const wakeup = new Wakeup(fanout, now);
  const reads = new Reads(replica, identity, { policies, onDenied: accessLog.onDenied });
  const dnsNames = new DnsNames(replica, settings.dns.zones.map(plainName));
  dnsNames.refresh();
  registrar.requests.refresh();
  replica.takeTouched();
  const hasSeeds = settings.fabric.enabled !== false && settings.fabric.seeds.length > 0;
  const machine = new NodeMachine({ replica, registrar, fanout, dnsNames, policies, metrics, limits, hasSeeds, newGeneration }, time);
  const driver = new CoreDriver(machine, driverPorts(options, journal, { metrics, wakeup }));
  return {
    identity,
    listeners,
    replica,
    leases,
    registrar,
    policies,
    accessLog,
    limits,
    reads,
    fanout,
    wakeup,
    machine,
    driver,
    dnsNames,
    stamper,
    hlc,
    bytes: new DiscoveryBytes(replica.slab, (record) => registrar.loadOf(record.key)),
    journal,
    metrics,
    audit,
    ...policySwitches({ policies, replica, reads, fanout, clusterId: settings.node.clusterId }, () => driver.show()),
  };
}

/** What the machine orders, carried out by the journal. */
function driverPorts({ log }: CoreOptions, journal: Journal, { metrics, wakeup }: Pick<NodeCore, "metrics" | "wakeup">): DriverPorts {
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
    wake: () => wakeup.kick(),
    onRefused: (error) => nodeLog.error({ err: error }, "new generation not written, trying again"),
  };
}

/** What the journal kept, back in the rooms. */
async function replay(
  { settings, log }: CoreOptions,
  journal: Journal,
  rooms: Pick<NodeCore, "replica" | "leases" | "stamper" | "hlc" | "registrar">,
  time: Time,
): Promise<void> {
  const { replica, leases, registrar } = rooms;
  restoreLeases(leases, journal.restored.leases, registrar, time);
  const restoring = new Restoring({ ...rooms, bounds: PROTOCOL_BOUNDS, maxClockSkewMs: settings.fabric.maxClockSkewMs }, time);
  await journal.replay((row) => restoring.row(row));
  const { generation, floor } = replica.self;
  // With the numbers it goes on from: else each start would find those that nobody can go on from, and take yet another generation.
  if (generation !== journal.restored.generation) await journal.renewGeneration(generation, { lastSeq: replica.lastSeq, floor });
  const againCount = restoring.finish();
  if (againCount > 0) log.child("journal").warn({ againCount }, "records with numbers that nobody can go on from are written again");
}

function policySwitches(parts: SwitchQueueParts, showChanges: () => void): Pick<NodeCore, "switchPolicy" | "policyHeard"> {
  const switcher = new PolicySwitcher(new SwitchQueue(parts), showChanges);
  return { switchPolicy: () => switcher.run(), policyHeard: () => switcher.heard() };
}

interface WriteRules {
  readonly policies: PolicyEngine;
  readonly onDenied: OnDenied;
  readonly onRefused: (refusal: RefusedAct) => void;
  readonly quotas: Quotas;
}

function buildCatalog(
  { settings: { node, catalog, limits }, patience = patienceOfLoop() }: CoreOptions,
  journal: Journal,
  { lookup, rules, collectsBy }: { lookup: Lookup; rules: WriteRules; collectsBy: () => CollectsBy },
) {
  const { policies, onDenied, onRefused, quotas } = rules;
  const replica = new Replica(lookup, new Slab(), { ...soundNumbers(journal.restored, newGeneration), ...catalog });
  replica.setAdmission((stored) => isAdmitted(policies.policy, stored, node.clusterId));
  const leases = new Leases(randomBytes(4).readUInt32BE());
  const stamper = new EntryStamper({ bounds: limits, traits: new TraitsPool() });
  const hlc = new Hlc();
  const options = {
    policies,
    onDenied,
    onRefused,
    source: node,
    nodeId: journal.restored.nodeId,
    defaultTtlMs: catalog.defaultLeaseTtlMs,
    minTtlMs: catalog.minLeaseTtlMs,
    maxTtlMs: catalog.maxLeaseTtlMs,
    loadIntervalMs: catalog.loadIntervalMs,
    maxIdempotencyKeys: catalog.maxIdempotencyKeys,
    collectsBy,
    newToken: () => token(12),
    patience,
  };
  return { replica, leases, stamper, hlc, registrar: new Registrar(options, { replica, leases, stamper, hlc, quotas }) };
}

function identityOf(
  { settings, version }: CoreOptions,
  journal: Journal,
  at: { listeners: Record<string, string>; time: Time; replica: Replica },
): NodeIdentity {
  const { clusterId, region, zone, roles } = settings.node;
  const { nodeId, boot } = journal.restored;
  const { listeners, time, replica } = at;
  return {
    version,
    nodeId,
    clusterId,
    region,
    zone,
    roles,
    listeners,
    boot,
    startedMonoMs: time.monoMs,
    get generation() {
      return replica.self.generation;
    },
  };
}
