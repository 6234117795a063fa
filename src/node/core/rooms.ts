/**
 * Builds the rooms of a node: its catalog with what the disk kept, its policy, its readers and its machine. Product and simulator build them
 * here, each with its own clocks, chance and disk.
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
import { type AliasTarget, entryOwner } from "../../discovery/checks/watched.ts";
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

/** What the disk kept, without the rows. */
export type RestoredNode = Pick<RestoredJournal, "nodeId" | "generation" | "lastSeq" | "floor" | "leases" | "boot">;

/** What a node that holds summaries knows of clusters, and how it wakes who watches them. */
export type SummaryKeySources = Pick<SummariesParts, "announcements" | "imports" | "keys" | "onAgain" | "signer">;

/** What a node is built from beside its disk. */
export interface RoomsOptions extends Omit<CoreProcess, "boot"> {
  /** How many versions of the policy are remembered, and how large they may be together. */
  readonly history: { readonly maxVersions: number; readonly maxBytes: number };
  /** The clock of leases, in which standstills of this process hardly count. */
  readonly stallClock: StallAwareClock;
  /** Whether the data directory has the mark that other nodes were there. */
  readonly isMarked: boolean;
  /** No leases are granted yet. They come from outside because their hash takes a random seed. */
  readonly leases: Leases;
  /** Draws a generation. Generations grow with time, and no two are the same. */
  readonly newGeneration: (time: Time) => number;
  /** Draws the random part of a lease id. */
  readonly newToken: () => string;
  /** Draws a number from 0 to below 1, for what needs no secret. */
  readonly random: () => number;
  /** Keys of clusters, for a node that holds summaries; undefined for one that does not. */
  readonly seals?: SummaryKeySources | undefined;
}

/** The rooms that the rows of the disk go into. */
type RestorableRooms = ReturnType<typeof restorableRooms>;

/** The rooms of a node whose rows are back. */
export interface RestoredRooms extends RestorableRooms {
  readonly machine: NodeMachine;
  readonly guard: FabricGuard;
  /** Undefined of a node that has nothing to do with summaries. */
  readonly regions: NodeSummaries | undefined;
}

/** A node whose leases are back and whose rows are still to come. */
export interface OpeningRooms {
  readonly rooms: RestorableRooms;
  /** A generation that the disk must take first: no node accepts the one there, because the clock was after the year 2106 when it was drawn. */
  readonly renewed: number | undefined;
  /** Takes the next row. Throws `invalid_argument` for one that this version cannot have written. */
  row(row: RestoredPut): void;
  /** To be called after the last row. `againCount`: rows of another region, which are staged to be written again. */
  finish(): { readonly rooms: RestoredRooms; readonly againCount: number };
}

export function openRooms(restored: RestoredNode, options: RoomsOptions, time: Time): OpeningRooms {
  const { settings, metrics, newGeneration } = options;
  const renewed = isSeq(restored.generation) ? undefined : newGeneration(time);
  const node = { ...restored, generation: renewed ?? restored.generation };
  // The registrar asks what it may collect only when time goes on, and by then there is a machine.
  const restorable = restorableRooms(node, options, time, () => machine.collectsBy(options.now()));
  const { replica, registrar, leases, policies, switches, dnsNames } = restorable;
  const joins = { hasSeeds: hasSeeds(settings), newGeneration };
  const summaries = summariesOf(restorable, restored, options, time);
  const machine = new NodeMachine({ ...restorable, metrics, summaries, ...joins }, time);
  restoreLeases(leases, restored.leases, registrar, time);
  const { maxClockSkewMs } = settings.fabric;
  const guard = new FabricGuard({ settings, policies, nodeId: restored.nodeId, isMarked: options.isMarked });
  const restoring = new JournalRestore({ ...restorable, bounds: PROTOCOL_BOUNDS, maxClockSkewMs, region: settings.node.region }, time);
  const finish = () => {
    const againCount = restoring.finish();
    const rooms = { ...restorable, machine, guard, regions: summaries };
    // A policy that is in force by now counts from the start.
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

/** The export rules of the borders with each region. */
function exportsByRegion(borders: Settings["fabric"]["borders"]): SummariesOptions["borderExports"] {
  const byRegion = Map.groupBy(borders, ({ region }) => region);
  return new Map([...byRegion].map(([region, rows]) => [region, rows.map((border) => border.export)]));
}

/** The channels as the settings name them. */
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

/** Finds the entry of an alias: what readers see of it, if the tenant of the entry with the alias may see its namespace. */
function aliasSource({
  replica,
  policies,
  clusterId,
}: {
  readonly replica: Replica;
  readonly policies: PolicyEngine;
  readonly clusterId: string;
}) {
  return (asked: AliasKey, own: KeyText): AliasTarget | undefined => {
    const key = parseKey(asked, "key", clusterId, PROTOCOL_BOUNDS);
    const tenant = replica.own(own)?.traits.tenantId ?? "";
    const isSeen = policies.policy.viewer(keyParts(key).namespace, { clusterId, tenant }).allowed;
    const record = isSeen ? replica.view(key) : undefined;
    const checked = checkedOf(replica, record);
    return record === undefined || checked === undefined ? undefined : { record, checked };
  };
}

/** Own entries that may have checks, staged or on disk. */
function mayBeChecked(replica: Replica): readonly KeyText[] {
  return [...replica.self.log.list(), ...replica.staged].filter(({ mayHaveChecks }) => mayHaveChecks).map(({ key }) => key);
}

/** The checks of a live record, staged or visible. */
function checkedOf({ slab }: Replica, record: CatalogRecord | undefined): ReturnType<typeof checksOf> | undefined {
  return record?.body === BODY.ENTRY ? checksOf(slab.view(record.at, record.sizeBytes)) : undefined;
}

/** Whether the settings name nodes to join. */
export function hasSeeds({ fabric }: Pick<Settings, "fabric">): boolean {
  return fabric.enabled !== false && fabric.seeds.length > 0;
}

/**
 * Whether the settings of a node mean that its cluster exports summaries. Which nodes then do it is decided while they run.
 * On where borders are set, so that a cluster without a key says that it exports nothing. On also where the settings have a key of this cluster, the
 * private or the public one: it exports although the borders of its region are set in another cluster. Without either the cluster only reads.
 */
export function isMeantToExport({ summary, fabric, node }: Settings): boolean {
  const { exportEnabled, signingKeyFile, keys } = summary;
  const hasKey = signingKeyFile !== undefined || keys.some(({ clusterId }) => clusterId === node.clusterId);
  return exportEnabled ?? (fabric.borders.length > 0 || hasKey);
}
