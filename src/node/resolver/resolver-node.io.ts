/**
 * Opens the parts of a resolver in order. A resolver serves the same reads as a node, using followed and fetched entries. A resolver has no fabric,
 * journal or policy store.
 */

import { randomBytes, randomFillSync } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Settings } from "../../config/settings.ts";
import { Metrics } from "../../lib/metrics/metrics.ts";
import { draws } from "../../lib/rng.ts";
import { now } from "../../lib/stall-aware-time.io.ts";
import { copyBound } from "../../resolver/disk/disk-copy.ts";
import { openScraper } from "../../server/metrics.io.ts";
import { namedPrefixes, nameServerView, type ResolverFacts, resolverEntry } from "../../services/resolving/own-entry.ts";
import { openAuditLog } from "../../store/audit/log.io.ts";
import { DATA_FILES } from "../../store/data-directory.ts";
import { checkExposure, openIdentities } from "../callers.io.ts";
import type { NodeComponent, NodeComponents } from "../components.io.ts";
import { DnsPresence } from "../dns/presence.ts";
import { advertisedHost } from "../fabric/address.io.ts";
import { openFollower } from "../identity/component.io.ts";
import { clusterNames, endpointsOf, openListeners } from "../listeners.io.ts";
import { watchEventLoop } from "../loop-blocks.io.ts";
import { aborted, auditPart, type NodeOptions, nameListeners, observe, type RunningNode, startParts, stopParts } from "../starting.io.ts";
import { ZoneSerials } from "../zone-serials.io.ts";
import { type KeptCopy, openCacheFile } from "./cache-file.io.ts";
import { ResolverCore } from "./resolver-core.io.ts";
import { SelfRegistrar, type SelfRegistrarParts } from "./self-registration.io.ts";

/** Returns random numbers from 0 to below 1, for all resolvers of this process. */
const random = draws(randomFillSync);
/** Minimum time for unregistering, even if open calls get less time. */
const LEAST_DRAIN_MS = 500;

/**
 * Starts a resolver and resolves when it is ready: it has the policy and all of `resolver.namespaces`. Until then its listeners respond with
 * `not_ready`. Rejects in the same cases as `startNode`.
 */
export function startResolver(options: NodeOptions): Promise<RunningNode> {
  return startParts(options, openParts);
}

async function openParts(options: NodeOptions, parts: NodeComponents): Promise<RunningNode> {
  const { settings, log } = options;
  const { clusterId } = settings.node;
  checkExposure(settings, log.child("identity"));
  const openTable = () => openIdentities({ settings, clusterId, log: log.child("identity"), now });
  const identities = await parts.open("identities", openTable, (table) => table);
  const metrics = new Metrics();
  const watchLoop = () => watchEventLoop(log.child("node"), metrics);
  await parts.open("event loop", watchLoop, (watch) => watch);
  const directory = settings.persistence.ephemeral ? undefined : settings.persistence.dataDir;
  const openAudit = () => openAuditLog({ ...settings.audit, directory, metrics, log: log.child("policy").child("audit") });
  const audit = await parts.open("audit", openAudit, auditPart);
  const nodeId = resolverIdOf(settings);
  const openCore = () => new ResolverCore(options, { nodeId, metrics, audit, random });
  const core = await parts.open("resolver", openCore, (opened) => opened);
  const openOwnCopy = () => openCopy(options, core, directory);
  writeEarly(core, await parts.open("copy on disk", openOwnCopy, (component) => component));
  const { rooms } = core;
  const identity = await openFollower(options, metrics, parts);
  const useTrust = () => identity.trust && identities.setManaged(identity.trust.managed);
  useTrust();
  identity.trust?.follow(useTrust);
  identity.certificate?.serve("", () => core.reload());
  if (identity.spire !== undefined) identity.spire.onKept = () => core.reload();
  const openSerials = () => ZoneSerials.open({ ...rooms, settings, log: log.child("dns"), now });
  const serials = await parts.open("zone serials", openSerials, (opened) => opened ?? {});
  const listeners = await openListeners(
    {
      ...rooms,
      remoteLookups: core.remoteLookups,
      clusters: clusterNames(settings, { summaries: rooms.summaries?.reads, dnsNames: rooms.dnsNames, now }),
      self: nameServerView(
        { nodeId, zone: settings.node.zone, version: options.version },
        advertisedHost(settings, settings.dns.host ?? settings.listen.host),
      ),
      settings,
      log,
      services: core.services,
      idPrefix: rooms.identity.boot,
      zoneSerials: serials?.announced,
      metrics,
      identities,
      checkCaughtUp: () => core.checkReady(),
      followServing: (onServing) => core.followServing(onServing),
      dnsPresence: new DnsPresence(true),
      sources: {
        readiness: () => ({ isDraining: core.isDraining, checks: parts.readiness(now()) }),
        scrape: openScraper(metrics),
        persistence: () => undefined,
      },
      now,
      random,
    },
    parts,
  );
  observe(options, metrics, parts);
  return serve(options, core, parts, endpointsOf(listeners));
}

/** Writes the on-disk copy ahead of schedule when the policy changes, and when this resolver begins to serve. */
function writeEarly(core: ResolverCore, copy: { readonly writeSoon: () => void }): void {
  core.onPolicyChanged = copy.writeSoon;
  core.followServing((isServing) => {
    if (isServing) copy.writeSoon();
  });
}

function openCopy({ settings, log }: NodeOptions, core: ResolverCore, directory: string | undefined): Promise<KeptCopy> {
  return openCacheFile({
    directory,
    machine: core.rooms.machine,
    maxBytes: copyBound(settings.resolver.maxBytes),
    log: log.child("resolver"),
    now,
    onReplayed: ({ entryCount, ageMs }) => core.replayed(entryCount, ageMs),
  });
}

async function serve(
  options: NodeOptions,
  core: ResolverCore,
  parts: NodeComponents,
  endpoints: ReturnType<typeof endpointsOf>,
): Promise<RunningNode> {
  const { settings, log, interrupt } = options;
  const { listeners, identity, replica } = core.rooms;
  const { nodeId } = identity;
  const advertised = nameListeners(settings, listeners, endpoints);
  const openRegistrar = () =>
    new SelfRegistrar({ ...ownEntryOf(options, core, advertised), calls: core.calls, log: log.child("resolver"), now, random });
  const registrar = await parts.open("registration", openRegistrar, registrationPart);
  interrupt?.throwIfAborted();
  options.onOpened?.(() => parts.reload());
  log.info({ nodeId, ...listeners }, "resolver is listening");
  await parts.start();
  await options.beforeReady?.(endpoints.calls.grpc);
  await Promise.race([core.ready, aborted(interrupt)]);
  if (core.isServing) {
    log.info({ nodeId, entries: replica.lookup.size, ...listeners }, "resolver is ready");
    registrar.begin();
  }
  let stopping: Promise<void> | undefined;
  return {
    nodeId,
    listeners,
    fault: "",
    stop: () => {
      stopping ??= stopParts(parts, options, { nodeId, drain: () => core.drain() });
      return stopping;
    },
  };
}

/** The entry is removed before open calls end, so that clients switch to other servers. */
function registrationPart(registrar: SelfRegistrar): NodeComponent {
  return {
    drain: async (by) => {
      await registrar.stop(by.leftMs(LEAST_DRAIN_MS));
    },
    leastDrainMs: LEAST_DRAIN_MS,
  };
}

function ownEntryOf(
  { version, settings }: NodeOptions,
  { rooms: { identity, machine, policies } }: ResolverCore,
  listeners: ResolverFacts["listeners"],
): Pick<SelfRegistrarParts, "upstream" | "entry"> {
  const facts = { nodeId: identity.nodeId, zone: settings.node.zone, version, listeners };
  return {
    upstream: () => machine.upstreams.current,
    entry: () => resolverEntry({ ...facts, followed: namedPrefixes(machine.following.prefixes.list, policies.policy) }),
  };
}

// The id of a resolver without `node.id`. It is generated once and stored in the data directory.

/** Returns the id. Throws if the file cannot be read or written, or does not contain an id. */
function resolverIdOf({ node, persistence }: Settings): string {
  if (node.id !== undefined) return node.id;
  const made = `resolver-${randomBytes(4).toString("hex")}`;
  if (persistence.ephemeral) return made;
  const path = join(persistence.dataDir, DATA_FILES.resolverId);
  const kept = readId(path);
  if (kept !== undefined) return kept;
  mkdirSync(persistence.dataDir, { recursive: true, mode: 0o700 });
  // Fails rather than overwriting an id that another process has just written.
  writeFileSync(path, made, { mode: 0o600, flag: "wx" });
  return made;
}

function readId(path: string): string | undefined {
  let id: string;
  try {
    id = readFileSync(path, "utf8").trim();
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
  if (/^[A-Za-z0-9._-]{1,64}$/.test(id)) return id;
  throw new Error(`${path} does not contain a valid resolver id; set node.id, or remove the file to get a new id`);
}
