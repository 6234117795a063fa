/** Runs the fabric in a node: opens its listener, carries out what its machine orders, and leaves in good order. */
import { performance } from "node:perf_hooks";
import { PROTOCOL_BOUNDS } from "../../catalog/entry/names.ts";
import { keyParts } from "../../catalog/record/record.ts";
import { isFabricOpen, wantsPeers } from "../../config/exposure.ts";
import type { Settings } from "../../config/settings.ts";
import { Fabric } from "../../fabric/fabric.ts";
import { type ClusterTokens, PROTOCOL_VERSIONS } from "../../fabric/links/peer-auth.ts";
import { standingOf } from "../../fabric/origin-lifecycle-parts.ts";
import { WINDOW_BYTES } from "../../fabric/transport/dial.io.ts";
import type { MemberFacts } from "../../fabric/wire/messages.ts";
import { openAcceptor } from "../../grpc/server/acceptor.io.ts";
import { ConnectionGuard } from "../../grpc/server/connection-guard.io.ts";
import { CONNECTION_LIMITS } from "../../grpc/server/connection-limits.ts";
import { type TlsWatch, watchTls } from "../../grpc/server/tls-files.io.ts";
import { hostPort } from "../../lib/addresses.ts";
import type { Log } from "../../lib/log.io.ts";
import type { Time } from "../../lib/machine.ts";
import { fabricOf } from "../core.ts";
import type { CoreDriver, Told } from "../core-driver.io.ts";
import { type NodeCore, now } from "../rooms.io.ts";
import { type Warm, WarmStart } from "../warm-start.ts";
import { advertisedHost, fabricHost } from "./address.ts";
import { OwnClock } from "./clock.ts";
import { FabricEvents } from "./events.ts";
import type { NodeFabric } from "./fabric.ts";
import { MembersFile } from "./members-file.io.ts";
import { observeFabric } from "./metrics.ts";
import { FabricGuard } from "./open-fabric.ts";
import { fabricOptions, foreignTo, peerAuthSettings, readClusterTokens, readFabricTls, secretRng } from "./options.ts";
import { FabricPeers, fabricReadiness, joinFaultOf, peerDirectory } from "./peer-directory.ts";
import { FabricPolicy, isPolicyTaken, notTakenText, type TravellingPolicy } from "./policy.ts";
import { lookAtRefusers, OwnStart, startOfNode } from "./standing.ts";

export interface FabricComponentOptions {
  readonly settings: Settings;
  readonly log: Log;
  readonly version: string;
  readonly core: NodeCore;
  readonly policy: TravellingPolicy;
}

/** What the last snapshot has at least, however long goodbyes took. */
const MIN_SNAPSHOT_MS = 1000;

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
  const component = new FabricComponent(options, warmStart, await warmStart.restore());
  try {
    await component.open();
  } catch (error) {
    await component.stop("keep", 0);
    throw error;
  }
  return component;
}

class FabricComponent implements NodeFabric {
  readonly #becameReady = Promise.withResolvers<void>();
  readonly ready = this.#becameReady.promise;
  readonly mayBeOthers = () => wantsPeers(this.#options.settings) && this.#fabric.readiness(now()).reason === "alone";
  readonly peers: FabricPeers;
  readonly mesh: NodeFabric["mesh"];
  readonly #options: FabricComponentOptions;
  readonly #warmStart: WarmStart;
  readonly #warm: Warm | undefined;
  readonly #driver: CoreDriver;
  readonly #host: string;
  readonly #events: FabricEvents;
  readonly #clock: OwnClock;
  readonly #start: OwnStart;
  readonly #guard: FabricGuard;
  readonly #policy: FabricPolicy;
  readonly #members: MembersFile;
  #tokens: ClusterTokens;
  #isOpen = false;
  #tlsWatch: TlsWatch | undefined;
  /** When what is held was right, as the goodbye was said. */
  #rightAtGoodbyeWallMs: number | undefined;

  constructor(options: FabricComponentOptions, warmStart: WarmStart, warm: Warm | undefined) {
    const { core, settings } = options;
    this.#options = options;
    this.#warmStart = warmStart;
    this.#warm = warm;
    this.#host = fabricHost(settings);
    this.#events = new FabricEvents(core, options.log);
    this.#clock = new OwnClock(core, settings.fabric.seeds.length > 0, (event) => this.#events.tell(event));
    const onWon = () => this.#driver.ask((time, out) => core.machine.loseGeneration({ peerNodeId: "", seq: 0 }, time, out));
    this.#start = new OwnStart(core, { tell: (event) => this.#events.tell(event), onWon });
    this.#guard = new FabricGuard(settings, core, options.log);
    this.#tokens = readClusterTokens(settings);
    this.#members = new MembersFile(settings.persistence, core.identity, options.log);
    this.#driver = core.driver;
    this.#policy = new FabricPolicy(options.policy, (input) => this.#driver.input(input), options.log);
    this.peers = new FabricPeers(core);
    this.mesh = peerDirectory(core);
  }

  /** There is one from `open` on. */
  get #fabric(): Fabric {
    return fabricOf(this.#options.core);
  }

  get listener(): NodeFabric["listener"] {
    const { address, port } = this.#driver;
    return { host: this.#host, port, address };
  }

  async open(): Promise<void> {
    const { core, settings } = this.#options;
    core.hooks.onTold = (told) => this.#told(told);
    core.hooks.onHandled = (time) => this.#handled(time);
    core.hooks.keepRoster = (bytes) => this.#members.write(bytes);
    const beforeBegin = async () => {
      await core.journal.nameStart();
      core.machine.join(this.#makeFabric(), this.#facts());
    };
    await this.#driver.open({ transport: this.#transport(), beforeBegin });
    this.#isOpen = true;
    const fabric = this.#fabric;
    core.hooks.confirmed = () => {
      this.#driver.look();
      return this.#start.confirmed(fabric.membership, now());
    };
    core.hooks.collectsBy = () => (fabric.mayCollect(now()) ? "age" : "count");
    core.hooks.policyNotTaken = () => this.#policy.fault || notTakenText(fabric);
    core.hooks.policyReaches = (clusterId) => isPolicyTaken(fabric, clusterId);
    core.hooks.securePolicy = () => this.#guard.secure(fabric);
    this.#policy.open();
    if (this.#warm !== undefined) {
      const keys = this.#warm.superseded.map(({ key }) => key);
      this.#driver.ask((time, out) => core.machine.end(keys, time, out));
      core.showChanges();
    }
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
    return fabricReadiness(this.#fabric, this.#options.core.state, time);
  }

  reload(): void {
    this.#tlsWatch?.reload();
    this.#reloadTokens();
  }

  async stop(how: "leave" | "keep", timeoutMs: number): Promise<void> {
    const endMonoMs = performance.now() + timeoutMs;
    this.#tlsWatch?.stop();
    if (this.#isOpen) await this.#driver.depart(how, timeoutMs);
    await this.#driver.closeNetwork(Math.max(0, endMonoMs - performance.now()));
    const rightWallMs = this.#rightAtGoodbyeWallMs;
    if (rightWallMs !== undefined) {
      const leftMs = Math.max(MIN_SNAPSHOT_MS, endMonoMs - performance.now());
      const { lifecycle } = this.#fabric;
      await this.#warmStart.finish((origin) => standingOf(lifecycle, origin, now()), rightWallMs, leftMs);
    }
    await this.#warmStart.close();
    await this.#members.close();
  }

  /** When what is held was right, as far as others told; undefined before that, or when no snapshots are wanted. */
  #rightWallMs(): number | undefined {
    const { settings, core } = this.#options;
    if (!this.#isOpen || settings.fabric.snapshotIntervalMs === 0 || !this.#fabric.isReady) return undefined;
    if (core.replica.isForgetting) return undefined;
    const time = now();
    return Math.max(0, Math.round(time.wallMs - this.#fabric.readiness(time).ageMs));
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
      this.#fabric.setTokens(tokens);
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
        limits: { ...CONNECTION_LIMITS, unreadBytes: WINDOW_BYTES },
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
      remembered: this.#members.remembered,
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

  // ---- what the machine tells ----

  #handled(time: Time): void {
    const { core } = this.#options;
    const { fabric } = core.machine;
    if (fabric === undefined) return;
    this.#clock.look(fabric.membership, time);
    this.#start.look(fabric.membership, time);
    lookAtRefusers(core, fabric.membership);
    core.state.joinFault = joinFaultOf(fabric, time);
    if (fabric.isReady && core.state.startFault === "" && !this.#clock.isComparing) this.#becameReady.resolve();
  }

  #told(told: Told): void {
    switch (told.kind) {
      case "memberChanged":
        this.peers.changed(told.update.nodeId);
        this.#guard.note(told.update.nodeId);
        return this.#events.member(told.update);
      case "memberForgotten":
        return this.peers.changed(told.nodeId);
      case "event":
        return this.#events.tell(told.event);
      case "readPolicy":
        void this.#policy.read(told.number);
        return;
      case "adoptPolicy":
        void this.#policy.adopt(told);
        return;
      case "generationLost":
        return this.#generationLost(told);
      case "staticEnded":
        return this.#events.staticEnded(keyParts(told.key));
      case "takenOver":
        return this.#options.core.metrics.counter("mesh_taken_over_entries_total", {}).inc(told.count);
      case "handedOver":
        return this.#events.handedOver(told);
      case "goodbye":
        this.#rightAtGoodbyeWallMs = this.#rightWallMs();
        return;
      case "gone":
      case "wake":
    }
  }

  #generationLost({ why: { peerNodeId, seq }, generation }: Extract<Told, { readonly kind: "generationLost" }>): void {
    const { core, log } = this.#options;
    const { generation: lost } = core.replica.self;
    const facts = { lastSeq: core.replica.self.through, lost, generation };
    if (peerNodeId === "") log.error(facts, "another start went under this id for a while, taking a new generation");
    else log.error({ peerNodeId, seq, ...facts }, "journal is older than what others know, taking a new generation");
  }
}
