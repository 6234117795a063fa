/** Opens the fabric of a node, its listener and its files, and carries out the machine's orders for the files. */
import { PROTOCOL_BOUNDS } from "../../catalog/entry/names.ts";
import type { Settings } from "../../config/settings.ts";
import { REVOCATIONS, ROOTS } from "../../control/identity/records.ts";
import type { Fabric } from "../../fabric/fabric.ts";
import type { ClusterTokens } from "../../fabric/links/peer-auth.ts";
import type { FabricJoinEndpoint } from "../../fabric/transport/listener.io.ts";
import type { FabricTls } from "../../fabric/transport/peer-identity.io.ts";
import type { CutReason } from "../../grpc/server/connection-guard.io.ts";
import { type TlsWatch, watchTls } from "../../grpc/server/tls-files.io.ts";
import { hostPort } from "../../lib/addresses.ts";
import { readCertificateUse } from "../../lib/certificates/roots.io.ts";
import { MAX_TIMER_MS } from "../../lib/duration.ts";
import { rethrowInvariant } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.io.ts";
import { now } from "../../lib/stall-aware-time.io.ts";
import type { NodeComponent } from "../components.io.ts";
import { joinOthers } from "../core/joining.ts";
import type { WarmParts, WarmStart } from "../core/warm-start.ts";
import type { CoreDriver } from "../core-driver.io.ts";
import type { NodeNotice } from "../core-io.ts";
import type { NodeCertificate } from "../identity/node-certificate.io.ts";
import type { NodeTrust } from "../identity/trust.io.ts";
import { MAX_SUMMARIES_FILE_BYTES, SummariesFile } from "../regions/summaries-file.io.ts";
import type { NodeCore } from "../rooms.io.ts";
import { SnapshotFile } from "../snapshot-file.io.ts";
import { advertisedHost, fabricHost } from "./address.io.ts";
import { readBorders, readTlsAndBorders } from "./borders.io.ts";
import { FabricEvents } from "./events.io.ts";
import type { NodeFabric } from "./fabric.io.ts";
import { MembersFile } from "./members-file.io.ts";
import { observeFabric } from "./metrics.ts";
import { fabricOptions, foreignTo } from "./options.ts";
import { FabricPeers, fabricReadiness, peerDirectory } from "./peer-directory.ts";
import { readClusterTokens, secretRng } from "./secrets.io.ts";

export interface FabricComponentOptions {
  readonly settings: Settings;
  readonly log: Log;
  readonly core: NodeCore;
  /** The certificate of this node, if an issuer of the cluster made it. */
  readonly certificate?: NodeCertificate | undefined;
  /** The revocations of certificates, if this node knows any. */
  readonly trust?: NodeTrust | undefined;
  /** On an issuer, the endpoint for newcomers. */
  readonly joinEndpoint?: FabricJoinEndpoint | undefined;
}

/** Minimum time that the fabric gets to announce its departure, in ms, even if open calls took long to end. */
const MIN_GOODBYE_MS = 1000;

/**
 * Opens the fabric listener. Messages from other nodes wait until the node begins. If the listener fails, rejects with a message for the operator.
 */
export async function openFabricComponent(options: FabricComponentOptions): Promise<NodeFabric> {
  const { settings, core, log } = options;
  const { driver, machine, metrics, journal } = core;
  const { found, ...files } = await openSnapshots(options);
  const members = new MembersFile(settings.persistence, core.identity, log);
  const tokens = readClusterTokens(settings);
  const host = fabricHost(settings);
  const transport = transportOptions(options, host, tokens);
  await driver.open(transport);
  const address = hostPort(advertisedHost(settings, host), settings.fabric.advertisePort || driver.port);
  const joining = {
    settings,
    options: fabricOptions(settings),
    rng: secretRng(),
    address,
    tokens,
    borders: readBorders(settings.fabric.borders, tokens),
    start: journal.restored,
    remembered: members.remembered,
    warm: found === "ignored" ? undefined : found,
    // Without a data directory, snapshots are not written.
    snapshots: { intervalMs: settings.persistence.ephemeral ? 0 : settings.fabric.snapshotIntervalMs, isOtherThere: found === "ignored" },
  };
  const fabric = joinOthers(core, joining, now());
  followNotices(options, members, files);
  const tlsWatch = watchFabricTls(options);
  options.certificate?.serve(address, () => tlsWatch?.reload());
  const component: NodeComponent = {
    start: async () => {
      // The id of this process instance must be on disk before the node sends anything.
      await journal.nameStart();
      driver.begin();
      reportSecurity(options, transport.tls);
    },
    reload: () => {
      tlsWatch?.reload();
      reloadTokens(options, fabric);
      reloadBorders(options, fabric);
    },
    leastDrainMs: MIN_GOODBYE_MS,
    drain: (by) => driver.depart(settings.fabric.onStop, by.leftMs(MIN_GOODBYE_MS)),
    stop: async (by) => {
      tlsWatch?.stop();
      await driver.closeNetwork(by.halfMs());
      await files.snapshot.close();
      await files.summaries.close();
      await members.close();
    },
    readiness: (time) => [{ name: "fabric", ...fabricReadiness(fabric, machine.writeEligibility, time) }],
    observe: () => observeFabric({ metrics, fabric, driver, machine, now }),
  };
  return {
    listener: { host, port: driver.port, address: driver.address, isTls: transport.tls !== undefined },
    mesh: peerDirectory(core),
    peers: new FabricPeers(core, driver),
    component,
  };
}

/** Logs events, and writes the files that the machine orders. */
function followNotices(options: FabricComponentOptions, members: MembersFile, files: SnapshotFiles): void {
  const { core, log } = options;
  const { driver } = core;
  const events = new FabricEvents(core, log);
  driver.follow((notice) => {
    if (notice.kind === "keepRoster") void keepRoster(members, notice.bytes, options);
    else if (notice.kind === "keepSnapshot") void keepSnapshots(notice, files, driver);
    events.onNotice(notice);
  });
}

function warmParts({ settings, core }: FabricComponentOptions): WarmParts {
  const { replica, stamper, hlc, identity } = core;
  const { maxClockSkewMs } = settings.fabric;
  const isForeign = foreignTo(identity, settings);
  return { replica, stamper, bounds: PROTOCOL_BOUNDS, hlc, maxClockSkewMs, clusterId: identity.clusterId, isForeign };
}

interface SnapshotFiles {
  readonly snapshot: SnapshotFile;
  readonly summaries: SummariesFile;
}

/** Opens the snapshot files and restores the replicated data and the stored summaries. */
async function openSnapshots(
  options: FabricComponentOptions,
): Promise<SnapshotFiles & { readonly found: WarmStart | "ignored" | undefined }> {
  const { settings, core, log } = options;
  const directory = settings.persistence.ephemeral ? undefined : settings.persistence.dataDir;
  const snapshot = new SnapshotFile(directory, log.child("snapshot"));
  const summaries = new SummariesFile({ directory, maxBytes: MAX_SUMMARIES_FILE_BYTES, log: log.child("summaries"), now });
  const parts = warmParts(options);
  const found = await snapshot.restore(parts);
  if (core.regions !== undefined) await summaries.restore({ ...parts, ...core.regions.replicated });
  return { found, snapshot, summaries };
}

/** Writes both files before it informs the machine that the snapshot is on disk, because a stopping node waits for this notification. */
async function keepSnapshots(
  notice: Extract<NodeNotice, { readonly kind: "keepSnapshot" }>,
  files: SnapshotFiles,
  driver: CoreDriver,
): Promise<void> {
  const isKept = await files.snapshot.keep(notice);
  if (notice.summaries !== undefined) await files.summaries.keep(notice.summaries);
  driver.input({ kind: "snapshotKept", isKept });
}

async function keepRoster(members: MembersFile, bytes: Uint8Array, { core, log }: FabricComponentOptions): Promise<void> {
  let isKept = true;
  try {
    await members.write(bytes);
  } catch (error) {
    rethrowInvariant(error);
    log.error({ err: error }, "members file not written, trying again");
    isKept = false;
  }
  core.driver.input({ kind: "rosterKept", isKept });
}

/** Reads the certificates again when their files change. The files of an identity change only when it is renewed, so they are not watched. */
function watchFabricTls(options: FabricComponentOptions): TlsWatch | undefined {
  const { settings, core, log, certificate, trust } = options;
  const { certFile, keyFile, caFile: clientCaFile, crlFile } = settings.fabric;
  if (certFile === undefined || keyFile === undefined) return undefined;
  const apply = () => {
    // The files are checked as they are at startup: they must still belong to this node.
    const tls = readTls(options);
    if (tls === undefined) return;
    core.driver.setTls(tls);
    reportSecurity(options, tls);
  };
  trust?.follow((changes, isReset) => {
    if (isReset || changes.some(({ key }) => key.startsWith(ROOTS) || key.startsWith(REVOCATIONS))) apply();
  });
  return watchTls({ group: "fabric", certFile, keyFile, clientCaFile, crlFile }, apply, {
    ...(certificate !== undefined && { pollMs: MAX_TIMER_MS }),
    onReload: () => log.info({}, "fabric certificates reloaded"),
    onError: (error) => log.warn({ err: error }, "fabric certificate reload failed, keeping the current certificates"),
  });
}

/** Announces the certificate that the fabric uses now, and the roots that it accepts. */
function reportSecurity({ core, certificate, settings }: FabricComponentOptions, tls: FabricTls | undefined): void {
  if (tls === undefined) return;
  const [cert, trusted] = [tls.cert, tls.clientCa].map((bytes) => Buffer.from(bytes).toString("latin1"));
  const use = readCertificateUse(cert ?? "", trusted ?? "");
  const { source: wanted } = settings.identity;
  const source = certificate !== undefined ? "mesh" : wanted === "spire" ? wanted : "files";
  core.driver.input({ kind: "security", security: { source, ...use } });
}

function reloadTokens({ settings, core, log }: FabricComponentOptions, fabric: Fabric): void {
  if (settings.fabric.clusterTokenFile === undefined) return;
  try {
    const tokens = readClusterTokens(settings);
    core.driver.setClusterToken(tokens.clusterToken);
    fabric.setTokens(tokens);
    core.driver.input({ kind: "tick" });
    log.info({ areTwoTaken: tokens.otherToken !== undefined }, "cluster token reloaded");
  } catch (error) {
    log.warn({ err: error }, "cluster token reload failed, keeping the current token");
  }
}

function reloadBorders({ settings, core, log }: FabricComponentOptions, fabric: Fabric): void {
  if (settings.fabric.borders.length === 0) return;
  try {
    fabric.borders.setBorders(readBorders(settings.fabric.borders, readClusterTokens(settings)));
    core.driver.input({ kind: "tick" });
    log.info({ borders: settings.fabric.borders.length }, "border tokens reloaded");
  } catch (error) {
    log.warn({ err: error }, "border token reload failed, keeping the current tokens");
  }
}

function readTls({ settings, core, trust }: FabricComponentOptions): FabricTls | undefined {
  const tls = readTlsAndBorders(settings, settings.fabric.borders, core.identity);
  return tls && { ...tls, revocations: trust?.revocations };
}

function transportOptions(options: FabricComponentOptions, host: string, { clusterToken }: ClusterTokens) {
  const { settings, core, log, joinEndpoint } = options;
  return {
    host,
    port: settings.fabric.port,
    tls: readTls(options),
    isInsecure: settings.listen.insecure,
    clusterToken,
    joinEndpoint,
    onCut: (reason: CutReason, address: string) => {
      core.metrics.inc("waymark_connections_refused_total", { listener: "fabric", reason });
      log.warn({ reason, address }, "connection cut");
    },
  };
}
