/** Runs the fabric in a node: opens its listener, carries out what its machine orders, and leaves in good order. */
import { performance } from "node:perf_hooks";
import { PROTOCOL_BOUNDS } from "../../catalog/entry/names.ts";
import { type KeyText, keyParts } from "../../catalog/record/record.ts";
import { renewSelf } from "../../catalog/replica/renew.ts";
import { isFabricOpen, wantsPeers } from "../../config/exposure.ts";
import type { Settings } from "../../config/settings.ts";
import { FabricDriver, type NodeOutput } from "../../fabric/driver.io.ts";
import { Fabric } from "../../fabric/fabric.ts";
import { type ClusterTokens, PROTOCOL_VERSIONS } from "../../fabric/links/peer-auth.ts";
import { standingOf } from "../../fabric/origin-lifecycle-parts.ts";
import { WINDOW_BYTES } from "../../fabric/transport/dial.io.ts";
import type { MemberFacts } from "../../fabric/wire/messages.ts";
import { rethrowBroken } from "../../lib/errors.ts";
import { hostPort } from "../../lib/host-port.ts";
import type { Log } from "../../lib/log.io.ts";
import type { Time } from "../../lib/machine.ts";
import { openAcceptor } from "../../server/acceptor.io.ts";
import { ConnectionGuard } from "../../server/connection-guard.io.ts";
import { type TlsWatch, watchTls } from "../../server/tls-files.io.ts";
import { type NodeCore, newGeneration, now } from "../core.ts";
import { type Warm, WarmStart } from "../warm-start.ts";
import { advertisedHost, fabricHost } from "./address.ts";
import { OwnClock } from "./clock.ts";
import { FabricEvents } from "./events.ts";
import type { NodeFabric } from "./fabric.ts";
import { handOver, takeOver } from "./leave.ts";
import { observeFabric } from "./metrics.ts";
import { WatchedFabric } from "./observed.ts";
import { FabricGuard } from "./open-fabric.ts";
import { fabricOptions, foreignTo, peerAuthSettings, readClusterTokens, readFabricTls, secretRng } from "./options.ts";
import { FabricPeers, fabricReadiness, joinFaultOf, peerDirectory } from "./peer-directory.ts";
import { FabricPolicy, isPolicyTaken, notTakenText, type TravellingPolicy } from "./policy.ts";
import { RosterFile } from "./roster.ts";
import { lookAtRefusers, OwnStart, startOfNode } from "./standing.ts";

export interface FabricComponentOptions {
  readonly settings: Settings;
  readonly log: Log;
  readonly version: string;
  readonly core: NodeCore;
  readonly policy: TravellingPolicy;
}

/** Of the time a stop has, what its goodbyes have. */
const GOODBYE_SHARE = 0.5;
/** What the last snapshot has at least, however long goodbyes took. */
const MIN_SNAPSHOT_MS = 1000;
/** A generation that could not be written is tried again after this. */
const RENEW_RETRY_MS = 1000;

/** Opens the fabric listener and begins to look for others. Rejects with a message for the operator when it cannot. */
export async function openFabricComponent(options: FabricComponentOptions): Promise<NodeFabric> {
  const { settings, core, log } = options;
  const { persistence, fabric } = settings;
  const warmStart = new WarmStart({
    directory: persistence.ephemeral ? undefined : persistence.dataDir,
    replica: core.replica,
    stamper: core.stamper,
    bounds: PROTOCOL_BOUNDS,
    hlc: core.hlc,
    maxClockSkewMs: fabric.maxClockSkewMs,
    clusterId: core.identity.clusterId,
    isForeign: foreignTo(core.identity, settings),
    log: log.child("snapshot"),
  });
  const mesh = new FabricComponent(options, warmStart, await warmStart.restore());
  try {
    await mesh.open();
  } catch (error) {
    await mesh.stop("keep", 0);
    throw error;
  }
  return mesh;
}

class FabricComponent implements NodeFabric {
  readonly #becameReady = Promise.withResolvers<void>();
  readonly ready = this.#becameReady.promise;
  readonly mayBeOthers = () => wantsPeers(this.#options.settings) && this.#watched.fabric.readiness(now()).reason === "alone";
  readonly peers: FabricPeers;
  readonly mesh: NodeFabric["mesh"];
  readonly #options: FabricComponentOptions;
  readonly #warmStart: WarmStart;
  readonly #warm: Warm | undefined;
  readonly #watched: WatchedFabric;
  readonly #driver: FabricDriver;
  readonly #host: string;
  readonly #events: FabricEvents;
  readonly #clock: OwnClock;
  readonly #start: OwnStart;
  readonly #guard: FabricGuard;
  readonly #policy: FabricPolicy;
  readonly #roster: RosterFile;
  #tokens: ClusterTokens;
  #isRenewing = false;
  #isStopping = false;
  #isOpen = false;
  #tlsWatch: TlsWatch | undefined;
  #isWhole = false;

  constructor(options: FabricComponentOptions, warmStart: WarmStart, warm: Warm | undefined) {
    const { core, settings } = options;
    this.#options = options;
    this.#warmStart = warmStart;
    this.#warm = warm;
    this.#host = fabricHost(settings);
    this.#events = new FabricEvents(core, options.log);
    this.#clock = new OwnClock(core, settings.fabric.seeds.length > 0, (event) => this.#events.tell(event));
    const onWon = () => void this.#renew({ kind: "generationLost", peerNodeId: "", seq: 0 });
    this.#start = new OwnStart(core, { tell: (event) => this.#events.tell(event), onWon });
    this.#guard = new FabricGuard(settings, core, options.log);
    this.#tokens = readClusterTokens(settings);
    this.#roster = new RosterFile(settings.persistence, core.identity, options.log);
    this.#watched = new WatchedFabric(
      () => this.#makeFabric(),
      core.metrics,
      (time) => this.#handled(time),
    );
    this.#policy = new FabricPolicy(options.policy, (input) => this.#driver.input(input), options.log);
    this.#driver = new FabricDriver(this.#watched, { transport: this.#transport(), onOutput: (output) => this.#carryOut(output) });
    const parts = { core, watched: this.#watched };
    this.peers = new FabricPeers(parts);
    this.mesh = peerDirectory(parts);
  }

  get listener(): NodeFabric["listener"] {
    const { address, port } = this.#driver;
    return { host: this.#host, port, address };
  }

  async open(): Promise<void> {
    const { core, settings } = this.#options;
    await this.#driver.open(() => core.journal.nameStart());
    this.#isOpen = true;
    core.hooks.onCommitted = () => this.#driver.changed();
    core.hooks.confirmed = () => {
      this.#driver.look();
      return this.#start.confirmed(this.#watched.fabric.membership, now());
    };
    core.hooks.collectsBy = () => (this.#watched.fabric.mayCollect(now()) ? "age" : "count");
    core.hooks.policyNotTaken = () => this.#policy.fault || notTakenText(this.#watched.fabric);
    core.hooks.policyReaches = (clusterId) => isPolicyTaken(this.#watched.fabric, clusterId);
    core.hooks.securePolicy = () => this.#guard.secure(this.#watched.fabric);
    this.#policy.open();
    if (this.#warm !== undefined) {
      this.#end(this.#warm.superseded.map(({ key }) => key));
      core.showChanges();
    }
    const { fabric } = this.#watched;
    observeFabric({ metrics: core.metrics, fabric, driver: this.#driver, now });
    this.#tlsWatch = this.#watchTls();
    this.#warmStart.starts = () => fabric.membership.acceptedStarts();
    this.#warmStart.start(
      settings.fabric.snapshotIntervalMs,
      (origin) => standingOf(fabric.lifecycle, origin, now()),
      () => this.#rightWallMs(),
    );
  }

  start(): void {
    // The machine began when its listener was bound; what it learns is shown by listeners that are open by now.
    this.#options.core.showChanges();
  }

  readiness(time: Time): { readonly isReady: boolean; readonly detail: string } {
    return fabricReadiness(this.#watched.fabric, this.#options.core.state, time);
  }

  reload(): void {
    this.#tlsWatch?.reload();
    this.#reloadTokens();
  }

  async stop(how: "leave" | "keep", timeoutMs: number): Promise<void> {
    const endMonoMs = performance.now() + timeoutMs;
    this.#isStopping = true;
    this.#tlsWatch?.stop();
    // Alone a node keeps everything: there is nobody for whom it would be gone.
    const isLeaving = how === "leave" && this.mesh.hasPeers();
    const leftCount = isLeaving ? await this.#handOver(endMonoMs - timeoutMs * GOODBYE_SHARE) : 0;
    const rightWallMs = this.#rightWallMs();
    await this.#driver.stop(isLeaving && leftCount === 0 ? "leave" : "restart", Math.max(0, endMonoMs - performance.now()));
    if (rightWallMs !== undefined) {
      const leftMs = Math.max(MIN_SNAPSHOT_MS, endMonoMs - performance.now());
      const { lifecycle } = this.#watched.fabric;
      await this.#warmStart.finish((origin) => standingOf(lifecycle, origin, now()), rightWallMs, leftMs);
    }
    await this.#warmStart.close();
    await this.#roster.close();
  }

  /** How many entries nobody took. */
  async #handOver(endMonoMs: number): Promise<number> {
    const { core, log } = this.#options;
    const parts = { core, driver: this.#driver, leaving: this.#watched.fabric.leaving, events: this.#events, log };
    const leftCount = await handOver(parts, endMonoMs);
    if (leftCount > 0) this.#driver.input({ kind: "facts", facts: { ...this.#facts(), keepsEntries: true } });
    return leftCount;
  }

  /** When what is held was right, as far as others told; undefined before that, or when no snapshots are wanted. */
  #rightWallMs(): number | undefined {
    const { settings, core } = this.#options;
    if (!this.#isOpen || settings.fabric.snapshotIntervalMs === 0 || !this.#watched.fabric.isReady) return undefined;
    if (core.replica.isForgetting) return undefined;
    const time = now();
    return Math.max(0, Math.round(time.wallMs - this.#watched.fabric.readiness(time).ageMs));
  }

  // ---- making it ----

  #watchTls(): TlsWatch | undefined {
    const { settings, core, log } = this.#options;
    const { certFile, keyFile, caFile: clientCaFile } = settings.fabric;
    if (certFile === undefined || keyFile === undefined) return undefined;
    const apply = () => {
      // Read again with the checks that they had at the start: they must still be this node's.
      const tls = readFabricTls(settings, core.identity);
      if (tls !== undefined) this.#driver.setTls(tls);
    };
    return watchTls({ group: "fabric", certFile, keyFile, clientCaFile }, apply, {
      onReload: () => log.info({}, "certificates of the fabric reloaded"),
      onError: (error) => log.warn({ err: error }, "certificates of the fabric not reloaded, keeping the old ones"),
    });
  }

  #reloadTokens(): void {
    const { settings, log } = this.#options;
    if (settings.fabric.clusterTokenFile === undefined) return;
    try {
      const tokens = readClusterTokens(settings);
      this.#driver.setClusterToken(tokens.clusterToken);
      this.#watched.fabric.setTokens(tokens);
      this.#driver.input({ kind: "tick" });
      this.#tokens = tokens;
      log.info({ areTwoTaken: tokens.otherToken !== undefined }, "cluster token reloaded");
    } catch (error) {
      log.warn({ err: error }, "cluster token not reloaded, keeping the old one");
    }
  }

  #transport() {
    const { settings, core, log } = this.#options;
    const { metrics } = core;
    return {
      host: this.#host,
      port: settings.fabric.port,
      tls: readFabricTls(settings, core.identity),
      isInsecure: settings.listen.insecure,
      clusterToken: this.#tokens.clusterToken,
      openFabricAcceptor: openAcceptor,
      guard: new ConnectionGuard({
        limits: { unreadBytes: WINDOW_BYTES },
        onCut: (reason, address) => {
          metrics.inc("waymark_connections_refused_total", { listener: "fabric", reason });
          log.warn({ reason, address }, "connection cut");
        },
      }),
    };
  }

  #makeFabric(): Fabric {
    const { settings, core } = this.#options;
    const { replica, stamper, hlc } = core;
    const warm = this.#warm;
    const startAgeMs = warm === undefined ? undefined : Math.max(0, now().wallMs - warm.savedWallMs);
    const fabric = new Fabric(fabricOptions(settings), {
      self: this.#facts(),
      replica,
      stamper,
      bounds: PROTOCOL_BOUNDS,
      hlc,
      rng: secretRng(),
      seeds: settings.fabric.seeds,
      clusterToken: this.#tokens.clusterToken,
      isInsecure: settings.listen.insecure,
      isOpen: isFabricOpen(settings),
      policyFrom: settings.policy.acceptFrom,
      peerAuth: peerAuthSettings(settings),
      startAgeMs,
      earlierBoots: core.journal.restored.earlierBoots,
      acceptedStarts: warm?.starts,
      remembered: this.#roster.remembered,
    });
    fabric.setTokens(this.#tokens);
    const { monoMs, wallMs } = now();
    if (warm === undefined) return fabric;
    const absent = new Map([...warm.absentWallMs].map(([id, at]) => [id, monoMs - (wallMs - at)]));
    fabric.lifecycle.resume(absent, warm.over, monoMs + settings.fabric.joinTimeoutMs);
    return fabric;
  }

  #facts(): MemberFacts {
    const { settings, core, version } = this.#options;
    const { nodeId, clusterId, region, zone, roles } = core.identity;
    return {
      nodeId,
      clusterId,
      region,
      zone,
      roles,
      version,
      generation: core.replica.self.generation,
      ...startOfNode(core.journal),
      address: hostPort(advertisedHost(settings, this.#host), settings.fabric.advertisePort || this.#driver.port),
      protocolVersions: PROTOCOL_VERSIONS,
      transports: ["h2"],
      labels: settings.node.labels,
      healthScore: 0,
    };
  }

  // ---- what the machine orders ----

  #handled(time: Time): void {
    const { fabric } = this.#watched;
    this.#clock.look(fabric.membership, time);
    this.#start.look(fabric.membership, time);
    this.#roster.look(fabric.lifecycle.roster);
    lookAtRefusers(this.#options.core, fabric.membership);
    this.#options.core.state.joinFault = joinFaultOf(fabric, time);
    if (fabric.isReady && this.#options.core.state.startFault === "" && !this.#clock.isComparing) this.#becameReady.resolve();
    const { isWhole } = fabric;
    if (isWhole === this.#isWhole) return;
    this.#isWhole = isWhole;
    if (!isWhole) return;
    // Whoever waited to be told that this is all.
    this.#options.core.fanout.all();
    this.#options.core.wakeup.kick();
  }

  #carryOut(output: NodeOutput): void {
    const { core } = this.#options;
    switch (output.kind) {
      case "changed":
        core.showChanges();
        return;
      case "superseded":
        this.#end(output.keys as readonly KeyText[]); // oxlint-disable-line typescript/no-unsafe-type-assertion -- keys of records held here
        return;
      case "generationLost":
        void this.#renew(output);
        return;
      case "offered":
        if (!this.#isStopping) takeOver(this.#options, output);
        return;
      case "memberChanged":
        this.peers.changed(output.update.nodeId);
        this.#guard.note(output.update.nodeId);
        this.#events.member(output.update);
        return;
      case "memberForgotten":
        this.peers.changed(output.nodeId);
        return;
      case "event":
        this.#events.tell(output.event);
        return;
      case "readPolicy":
        void this.#policy.read(output.number);
        return;
      case "adoptPolicy":
        void this.#policy.adopt(output);
    }
  }

  #end(keys: readonly KeyText[]): void {
    const { core, log } = this.#options;
    if (core.registrar.endSuperseded(keys, now()) === 0) return;
    for (const key of core.registrar.endings.takeEndedStatic()) this.#events.staticEnded(keyParts(key));
    core.committer.durable()?.catch((error: unknown) => log.warn({ err: error }, "entries that others took out not ended yet"));
  }

  /** A peer knows more of our generation than our journal (a backup, or a disk that lied); with no peer named, a disputed start was accepted. */
  async #renew(told: Extract<NodeOutput, { kind: "generationLost" }>): Promise<void> {
    const { core, log } = this.#options;
    const { replica, journal } = core;
    if (this.#isRenewing || this.#isStopping) return;
    this.#isRenewing = true;
    const { generation: lost } = replica.self;
    const { peerNodeId, seq, above = 0 } = told;
    const generation = Math.max(newGeneration(), lost + 1, above + 1);
    const facts = { lastSeq: replica.self.through, lost, generation };
    if (peerNodeId === "") log.error(facts, "another start went under this id for a while, taking a new generation");
    else log.error({ peerNodeId, seq, ...facts }, "journal is older than what others know, taking a new generation");
    try {
      await journal.renewGeneration(generation);
      renewSelf(replica, generation);
      core.showChanges();
      this.#driver.input({ kind: "facts", facts: this.#facts() });
      this.#driver.changed();
    } catch (error) {
      rethrowBroken(error);
      log.error({ err: error }, "new generation not written, trying again");
      setTimeout(() => void this.#renew(told), RENEW_RETRY_MS).unref();
    } finally {
      this.#isRenewing = false;
    }
  }
}
