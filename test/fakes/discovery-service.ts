/** The real DiscoveryService over an empty catalog in memory, without listeners. */

import { anonymousAccess } from "../../src/config/exposure.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { Settings } from "../../src/config/settings.ts";
import { parseZone } from "../../src/dns/names/names.ts";
import { DnsResponder } from "../../src/dns/server/responder.ts";
import type { DnsCatalog } from "../../src/dns/subject/subject.ts";
import { dnsCatalog } from "../../src/dns/views/catalog.ts";
import { DnsViews, viewersOf } from "../../src/dns/views/views.ts";
import { reverseZoneNames } from "../../src/lib/addresses.ts";
import { openLog } from "../../src/lib/log.io.ts";
import type { Time } from "../../src/lib/machine.ts";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import { now } from "../../src/lib/stall-aware-time.io.ts";
import { buildCore, type NodeCore, openStore } from "../../src/node/rooms.io.ts";
import { lonePeerDirectory } from "../../src/services/discovery/answer-age.ts";
import { discoveryServices } from "../../src/services/discovery/discovery.ts";
import { withNameReads } from "../../src/services/dns/name-answers.ts";
import type { ServiceDefinition } from "../../src/services/service.ts";
import { type AuditLog, openAuditLog } from "../../src/store/audit/log.io.ts";
import { openMemoryStore } from "../../src/store/control/sqlite.io.ts";
import type { ControlStore } from "../../src/store/control/store.ts";
import { ALL_TIME_COUNTS } from "./stall-clock.ts";

export interface DiscoveryInside {
  readonly metrics: Metrics;
  readonly service: ServiceDefinition;
  /** ResolverService over the same catalog. */
  readonly resolver: ServiceDefinition;
  /** DnsService over the same catalog. */
  readonly names: ServiceDefinition;
  readonly core: NodeCore;
  readonly settings: Settings;
  /** As the service reads its clocks. */
  now(): Time;
  /** What its DNS gateway asks of the node; `drawn` is where the first sample of a crowded name begins. */
  dns(drawn: number): DnsCatalog;
  /** A gateway's answers, without its sockets. */
  responder(): DnsResponder;
  /** In memory. */
  readonly audit: AuditLog;
  readonly store: ControlStore;
  /** How old its data is, as its peers would make it. */
  readonly freshness: { ageMs: number };
  stop(): Promise<void>;
}

/** What a test may put in the place of a node's own. */
type OtherPorts = { readonly [P in "checkNew" | "checkWrites" | "maintain"]?: Parameters<typeof discoveryServices>[0][P] };

export async function startDiscovery(
  zones: readonly string[] = ["waymark"],
  allowsViewerOverride = false,
  ports: OtherPorts = {},
  changed: (settings: Settings) => Settings = (settings) => settings,
): Promise<DiscoveryInside> {
  const loaded = loadConfig({ env: {}, flags: new Map([["persistence.ephemeral", true]]) });
  if (!loaded.ok) throw new Error("the defaults do not load");
  const settings = changed({ ...loaded.effective.settings, dns: { ...loaded.effective.settings.dns, zones } });
  const options = {
    settings,
    log: openLog({ level: "silent", scopes: new Map(), format: "json" }),
    version: "test",
    stallClock: ALL_TIME_COUNTS,
  };
  const journal = await openStore(options);
  const metrics = new Metrics();
  const auditLog = options.log.child("audit");
  const audit = await openAuditLog({ ...settings.audit, directory: undefined, metrics, log: auditLog });
  const store = openMemoryStore();
  const core = await buildCore(options, { journal, metrics, audit });
  const { nodeId } = core.identity;
  const random = (): number => 0.5;
  const freshness = { ageMs: 0 };
  const mesh = { ...lonePeerDirectory(nodeId), ageMs: () => freshness.ageMs };
  const {
    discovery: service,
    resolver,
    dns: written,
  } = discoveryServices({
    ...core,
    bounds: settings.limits,
    zones,
    durable: () => core.driver.durable(),
    isReady: () => true,
    isTls: false,
    checkCaughtUp: () => undefined,
    checkWrites: ports.checkWrites ?? (() => undefined),
    checkStart: () => undefined,
    checkNew: ports.checkNew ?? (() => undefined),
    confirmed: () => undefined,
    mesh,
    now,
    random,
    allowsViewerOverride,
    summaryTtlMs: settings.summary.ttlMs,
    pause: () => new Promise((resolve) => setImmediate(resolve)),
    onWrite: core.accessLog.onWrite,
    onMaintenance: core.accessLog.onMaintenance,
    maintain: ports.maintain ?? ((to, maintain) => core.driver.maintain(to, maintain)),
    onRefused: () => {},
    onRead: () => {},
  });
  const stop = async (): Promise<void> => {
    for (const wakeup of core.wakeups) wakeup.close();
    await core.driver.close();
    core.limits.close();
    await audit.close();
    await store.close();
    await journal.close();
  };
  const dns = (drawn: number): DnsCatalog => dnsCatalog(() => drawn, core);
  const { minTtlMs, maxTtlMs, staleTtlMs, negativeTtlMs, planBytes, srvPriority, srvTiers } = settings.dns;
  const times = { minTtlMs, maxTtlMs, staleTtlMs, negativeTtlMs, defaultTtlMs: settings.catalog.defaultLeaseTtlMs };
  const answering = {
    reverseZones: reverseZoneNames(settings.dns),
    zones: settings.dns.zones.map(parseZone),
    nodeId,
    allowExternalNames: false,
    srvPriority,
    srvTiers,
    ...times,
  };
  const responder = (): DnsResponder => new DnsResponder({ settings: answering, planBytes, random, serialOf: () => 1 });
  const [, names = written] = withNameReads([service, written], {
    settings: answering,
    catalogOf: (caller, view) => dnsCatalog(random, core, undefined, { view, caller }),
    viewers: viewersOf(settings.dns, settings.node),
    serialOf: (viewIndex) => 7 + viewIndex,
    views: new DnsViews(settings.dns.views, []),
    isAnonymousRefused: anonymousAccess(settings) === "none",
    reads: core.reads,
    checkCaughtUp: () => undefined,
    random,
    allowsViewerOverride,
  });
  return { service, resolver, names, core, settings, audit, store, metrics, now, freshness, dns, responder, stop };
}
