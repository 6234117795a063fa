/**
 * Builds the parts of a node: its catalog with the data from disk, its policy, its readers and its machine. The product and the simulator build these
 * parts here, each with its own clocks, randomness and disk.
 */
import type { RestoredPut } from "../../catalog/batch.ts";
import { checksOf } from "../../catalog/entry/checks.ts";
import { EntryStamper, parseKey } from "../../catalog/entry/codec.ts";
import { PROTOCOL_BOUNDS } from "../../catalog/entry/names.ts";
import { SCOPE } from "../../catalog/entry/scope.ts";
import type { Leases } from "../../catalog/leases.ts";
import { isSeq } from "../../catalog/record/codec.ts";
import { BODY, type CatalogRecord, type KeyText, keyParts } from "../../catalog/record/record.ts";
import { TraitsPool } from "../../catalog/record/traits.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import type { Settings } from "../../config/settings.ts";
import { CheckAdmission, hasAliasCheck } from "../../discovery/checks/admission.ts";
import { type AliasKey, HealthChecks } from "../../discovery/checks/checks.ts";
import { ProbeAllowList } from "../../discovery/checks/probe-allow-list.ts";
import { type AliasTarget, entryOwner } from "../../discovery/checks/watched-checks.ts";
import { LoadReports } from "../../discovery/registrar/load-reports.ts";
import { type CollectsBy, Registrar } from "../../discovery/registrar/registrar.ts";
import { JournalRestore, restoreLeases } from "../../discovery/registrar/restore.ts";
import { Hlc } from "../../lib/hlc.ts";
import type { Time } from "../../lib/machine.ts";
import type { StallAwareClock } from "../../lib/stall-aware-clock.ts";
import type { RefusedAct } from "../../policy/audit/record.ts";
import { PolicyEngine } from "../../policy/versions/engine.ts";
import type { RestoredJournal } from "../../store/journal/journal.ts";
import { NodeMachine } from "../core.ts";
import { FabricGuard } from "./open-fabric.ts";
import { type CoreProcess, openReadingCore, openReplica } from "./reading-core.ts";
import { NodeSummaries, type SummariesOptions, type SummariesParts } from "./regions/summaries.ts";

/** Data from disk, without the rows. */
export type RestoredNode = Pick<RestoredJournal, "nodeId" | "generation" | "lastSeq" | "floor" | "leases" | "boot">;

/** Cluster keys on a node that stores summaries, and the function that wakes watchers of summaries. */
export type SummaryKeySources = Pick<SummariesParts, "announcements" | "imports" | "keys" | "onAgain" | "signer">;

/** Options of a node, apart from its disk. */
export interface RoomsOptions extends Omit<CoreProcess, "boot"> {
  /** Maximum number and total size of remembered policy versions. */
  readonly history: { readonly maxVersions: number; readonly maxBytes: number };
  /** The clock for leases, which excludes most of the time during which this process was paused. */
  readonly stallClock: StallAwareClock;
  /** Whether the data directory has the marker for earlier peers. */
  readonly isMarked: boolean;
  /** The lease table, still empty. The table is passed in because its hash function needs a random seed. */
  readonly leases: Leases;
  /** Makes a generation. Generations grow with time and are unique. */
  readonly newGeneration: (time: Time) => number;
  /** Makes the random part of a lease id. */
  readonly newToken: () => string;
  /** Makes a random number from 0 to below 1, for purposes that do not need to be secure. */
  readonly random: () => number;
  /** Keys of clusters. Undefined on a node that stores no summaries. */
  readonly seals?: SummaryKeySources | undefined;
}

/** The parts into which the rows from the disk are restored. */
type RestorableRooms = ReturnType<typeof restorableRooms>;

/** The parts of a node whose rows are restored. */
export interface RestoredRooms extends RestorableRooms {
  readonly machine: NodeMachine;
  readonly guard: FabricGuard;
  /** Undefined on a node without summaries. */
  readonly regions: NodeSummaries | undefined;
}

/** A node whose leases are restored but whose rows are not. */
export interface OpeningRooms {
  readonly rooms: RestorableRooms;
  /**
   * A generation that must be written to disk first. Defined if every node would reject the stored generation, because the clock was past the year
   * 2106 when it was made.
   */
  readonly renewed: number | undefined;
  /** Restores the next row. Throws `invalid_argument` for a row that this version cannot have written. */
  row(row: RestoredPut): void;
  /** Must be called after the last row. `againCount`: number of rows from another region, which are staged to be written again. */
  finish(): { readonly rooms: RestoredRooms; readonly againCount: number };
}

export function openRooms(restored: RestoredNode, options: RoomsOptions, time: Time): OpeningRooms {
  const { settings, metrics, newGeneration } = options;
  const renewed = isSeq(restored.generation) ? undefined : newGeneration(time);
  const node = { ...restored, generation: renewed ?? restored.generation };
  // The registrar calls this function only for later inputs, when the machine exists.
  const restorable = restorableRooms(node, options, time, () => machine.collectsBy(options.now()));
  const { replica, registrar, leases, policies, switches, dnsNames } = restorable;
  const joins = { hasSeeds: hasSeeds(settings), addressesMs: settings.dns.maxTtlMs, hasWorkers: settings.node.workers > 0, newGeneration };
  const summaries = summariesOf(restorable, restored, options, time);
  const machine = new NodeMachine({ ...restorable, metrics, summaries, ...joins }, time);
  restoreLeases(leases, restored.leases, registrar, time);
  const { maxClockSkewMs } = settings.fabric;
  const guard = new FabricGuard({ settings, policies, nodeId: restored.nodeId, isMarked: options.isMarked });
  const restoring = new JournalRestore({ ...restorable, bounds: PROTOCOL_BOUNDS, maxClockSkewMs, region: settings.node.region }, time);
  const finish = () => {
    const againCount = restoring.finish();
    const rooms = { ...restorable, machine, guard, regions: summaries };
    // A policy that is already in force applies from the start.
    switches.start();
    if (summaries !== undefined) switches.followers.add(summaries.reads);
    dnsNames.refresh();
    registrar.functionIds.refresh();
    registrar.restored();
    restorable.checks.restored(mayBeChecked(replica), time);
    replica.takeTouched();
    return { rooms, againCount };
  };
  return { rooms: restorable, renewed, row: (row) => restoring.row(row), finish };
}

function summariesOf(
  { replica, policies, accessLog }: Pick<RestorableRooms, "accessLog" | "policies" | "replica">,
  { nodeId, boot }: Pick<RestoredNode, "boot" | "nodeId">,
  { settings, seals, newGeneration, now }: RoomsOptions,
  time: Time,
): NodeSummaries | undefined {
  if (seals === undefined) return undefined;
  const { clusterId, region } = settings.node;
  const { summary } = settings;
  const options = {
    nodeId,
    clusterId,
    region,
    generation: newGeneration(time),
    isExporting: isMeantToExport(settings),
    exportScope: CHANNEL_OF[summary.exportScope],
    exportNamespaces: summary.exportNamespaces,
    includeUnscoped: summary.includeUnscoped,
    exportIntervalMs: summary.exportIntervalMs,
    holdDownMs: summary.holdDownMs,
    ttlMs: summary.ttlMs,
    staleKeepMs: summary.staleKeepMs,
    maxClockSkewMs: summary.maxClockSkewMs,
    pruneIntervalMs: summary.pruneIntervalMs,
    storeForwardMs: summary.storeForwardMs,
    storeForwardMaxMessages: summary.storeForwardMaxMessages,
    requireSignatures: summary.requireSignatures,
    borderExports: exportsByRegion(settings.fabric.borders),
    neighbours: settings.fabric.borders,
  };
  const readers = { node: { nodeId, clusterId, region, boot }, onDenied: accessLog.onDenied, now };
  return new NodeSummaries(options, { catalog: replica, policies, ...readers, ...seals });
}

/** Returns the export rules for the borders, by region. */
function exportsByRegion(borders: Settings["fabric"]["borders"]): SummariesOptions["borderExports"] {
  const byRegion = Map.groupBy(borders, ({ region }) => region);
  return new Map([...byRegion].map(([region, rows]) => [region, rows.map((border) => border.export)]));
}

/** Scopes by their names in the settings. */
export const CHANNEL_OF = { zone: SCOPE.ZONE, region: SCOPE.REGION, global: SCOPE.GLOBAL } as const;

function restorableRooms(restored: RestoredNode, options: RoomsOptions, { monoMs }: Time, collectsBy: () => CollectsBy) {
  const { settings, leases, newToken, random, stallClock } = options;
  const { node, catalog } = settings;
  const { nodeId, boot } = restored;
  const policies = new PolicyEngine({ nodeId, clusterId: node.clusterId, ...options.history });
  const replica = openReplica(restored, settings, policies);
  const loads = new LoadReports(catalog.loadIntervalMs);
  const core = openReadingCore({
    ...options,
    boot,
    replica,
    policies,
    startedMonoMs: monoMs,
    loads,
    tenantChecks: (tenant) => checks.countOf(entryOwner(tenant, "")),
  });
  const { accessLog, limits } = core;
  const stamper = new EntryStamper({ bounds: settings.limits, traits: new TraitsPool() });
  const hlc = new Hlc();
  const registrarOptions = {
    policies,
    onDenied: accessLog.onDenied,
    onRefused: (act: RefusedAct) => limits.note(act),
    ...catalog,
    source: node,
    nodeId,
    collectsBy,
    newToken,
    stallClock,
  };
  const registrar = new Registrar(registrarOptions, { replica, leases, stamper, hlc, loads, quotas: limits.quotas });
  const checks = new HealthChecks({
    isEnabled: settings.checks.enabled,
    stallClock,
    random,
    checkedOf: (key) => checkedOf(replica, replica.own(key)),
    ownerOf: (key) => {
      const own = replica.own(key);
      return entryOwner(own?.traits.tenantId ?? "", own?.principal ?? "");
    },
    aliasOf: aliasSource({ replica, policies, clusterId: node.clusterId }),
    write: (key, states, time) => registrar.found(key, states, time),
  });
  registrar.followers.add(checks);
  const checkAdmission = new CheckAdmission({
    isEnabled: settings.checks.enabled,
    reach: new ProbeAllowList(settings.checks.allowed),
    clusterId: node.clusterId,
    policies,
    onDenied: accessLog.onDenied,
    hasAlias: (key) => [replica.own(key), replica.view(key)].some((record) => hasAliasCheck(checkedOf(replica, record))),
  });
  return { ...core, leases, stamper, hlc, registrar, checks, checkAdmission };
}

/** Finds the target entry of an alias as readers see it, provided that the tenant of the alias owner may see the target's namespace. */
function aliasSource({
  replica,
  policies,
  clusterId,
}: {
  readonly replica: Replica;
  readonly policies: PolicyEngine;
  readonly clusterId: string;
}) {
  return (alias: AliasKey, own: KeyText): AliasTarget | undefined => {
    const key = parseKey(alias, "key", clusterId, PROTOCOL_BOUNDS);
    const tenant = replica.own(own)?.traits.tenantId ?? "";
    const isSeen = policies.policy.viewer(keyParts(key).namespace, { clusterId, tenant }).allowed;
    const record = isSeen ? replica.view(key) : undefined;
    const checked = checkedOf(replica, record);
    return record === undefined || checked === undefined ? undefined : { record, checked };
  };
}

/** Returns own entries that may have checks, whether staged or on disk. */
function mayBeChecked(replica: Replica): readonly KeyText[] {
  return [...replica.self.log.list(), ...replica.staged].filter(({ mayHaveChecks }) => mayHaveChecks).map(({ key }) => key);
}

/** Returns the checks of a live record, whether staged or visible. */
function checkedOf({ slab }: Replica, record: CatalogRecord | undefined): ReturnType<typeof checksOf> | undefined {
  return record?.body === BODY.ENTRY ? checksOf(slab.view(record.at, record.sizeBytes)) : undefined;
}

/** Whether the settings name nodes that this node should join. */
export function hasSeeds({ fabric }: Pick<Settings, "fabric">): boolean {
  return fabric.enabled !== false && fabric.seeds.length > 0;
}

/**
 * Whether the cluster of this node exports summaries, according to the settings. The nodes that export are chosen at run time. True if borders are
 * set, so that a cluster without a key reports that it exports nothing. Also true if the settings have a key of this cluster, private or public: the
 * cluster then exports although the borders of its region are set in another cluster. In all other cases the cluster only reads.
 */
export function isMeantToExport({ summary, fabric, node }: Settings): boolean {
  const { exportEnabled, signingKeyFile, keys } = summary;
  const hasKey = signingKeyFile !== undefined || keys.some(({ clusterId }) => clusterId === node.clusterId);
  return exportEnabled ?? (fabric.borders.length > 0 || hasKey);
}
