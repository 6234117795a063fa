/**
 * Assembles the DNS answering of a process: views, catalogs, keys, limits and transfers, for DnsService and for every listener that receives queries.
 */
import { anonymousAccess } from "../../config/exposure.ts";
import { dnsRate, type Settings } from "../../config/settings.ts";
import { parseZone } from "../../dns/names/names.ts";
import type { DnsSettings } from "../../dns/records/record.ts";
import { openDnsCookies } from "../../dns/server/cookie-secrets.io.ts";
import { type DnsAnswers, type DnsAnswersOptions, openDnsAnswers } from "../../dns/server/server.io.ts";
import { type KeyFile, openKeyFile } from "../../dns/signing/key-file.io.ts";
import { ZoneSigner } from "../../dns/signing/zone-signer.ts";
import type { RemoteLookups } from "../../dns/subject/remote-lookup.ts";
import { openKeyFiles } from "../../dns/transfer/key-files.io.ts";
import { ZoneTransfers } from "../../dns/transfer/transfers.io.ts";
import type { EndedTransfer } from "../../dns/transfer/zone-messages.ts";
import { type DnsSources, dnsCatalog } from "../../dns/views/catalog.ts";
import { classesOf, DnsViews, type ViewerOfView, viewersOf } from "../../dns/views/views.ts";
import { type AddressBlock, isLoopbackHost, parseBlock, reverseBlocks, reverseZoneNames } from "../../lib/addresses.ts";
import type { RootLog } from "../../lib/log.io.ts";
import type { Time } from "../../lib/machine.ts";
import type { Metrics } from "../../lib/metrics/metrics.ts";
import { counted } from "../../lib/text/visible-text.ts";
import type { NameAnswersParts } from "../../services/dns/name-answers.ts";
import type { NodeIdentity } from "../../services/service.ts";
import type { AccessLog } from "../access-log.ts";
import type { CallerIdentities } from "../callers.io.ts";
import type { NodeLimits } from "../limits.ts";
import { dnsSelection } from "./selection.ts";

export interface DnsAnsweringOptions extends Omit<DnsSources, "remoteLookup"> {
  /** Lookups that a resolver sends to other clusters. Absent on a node. */
  readonly remoteLookups?: RemoteLookups | undefined;
  readonly settings: Settings;
  readonly log: RootLog;
  readonly identity: Pick<NodeIdentity, "clusterId" | "nodeId">;
  readonly metrics: Metrics;
  readonly limits: Pick<NodeLimits, "admitDns" | "makeBuckets" | "noteDns" | "noteHidden">;
  readonly accessLog: Pick<AccessLog, "onTransfer">;
  /** Identifies callers by their client certificates for DNS over TLS. Absent without DNS over TLS. */
  readonly identities?: Pick<CallerIdentities, "identify"> | undefined;
  /** Throws `not_ready` while DNS queries must not be answered. */
  readonly checkCaughtUp: () => void;
  /** Published zone serials, as 32-bit numbers, by class of viewers. Undefined while DNS is off. */
  readonly zoneSerials: SharedArrayBuffer | undefined;
  readonly now: () => Time;
  readonly random: () => number;
  /** Secret for DNS cookies that all threads of the node share. Absent if there is only one thread. */
  readonly cookieSecret?: Uint8Array | undefined;
}

interface AnsweringContext {
  readonly options: DnsAnswersOptions;
  readonly answers: DnsAnswers;
  /** Reads the cookie secret and the keys for zones and secondaries again. */
  reload(): void;
}

/** Opens the keys with which the gateway signs its zones. Undefined without a gateway or without signing. */
export function openZoneKeys({ settings: { dns }, log }: Pick<DnsAnsweringOptions, "log" | "settings">): KeyFile | undefined {
  return dns.enabled && dns.dnssecKeyFile !== undefined ? openKeyFile(dns.dnssecKeyFile, log.child("dns")) : undefined;
}

interface KeySharing {
  readonly zoneKeys: KeyFile | undefined;
  /** Number of threads or processes that share the plan memory, if the settings specify the total instead of a share. */
  readonly sharerCount: number;
}

export function openAnswering(options: DnsAnsweringOptions, { zoneKeys, sharerCount }: KeySharing): AnsweringContext {
  const { settings, log, metrics, random } = options;
  const { dns, listen } = settings;
  const dnsLog = log.child("dns");
  const cookies = openDnsCookies(dns.cookieSecretFile, dnsLog, options.cookieSecret);
  const perSecond = dnsRate(dns.rate, isLoopbackHost(dns.host ?? listen.host));
  const viewers = viewersOf(dns, settings.node);
  const trusted = blocksOf(dns.trustedForwarders);
  const signer = zoneKeys && new ZoneSigner({ keys: zoneKeys.keys, now: options.now });
  const keys = openKeyFiles(dns, dnsLog);
  const made: DnsAnswersOptions = {
    settings: withKeys(answerSettings(options), zoneKeys),
    signer,
    select: dnsSelection(options, viewers, new DnsViews(dns.views, trusted)),
    planBytes: Math.ceil(dns.planBytes / sharerCount),
    serialOf: serialsOf(options, viewers),
    transfers: { findKey: keys.findKey, running: openTransfers(options, viewers) },
    cookies: cookies.cookies,
    trustedForwarders: trusted,
    rate: perSecond === 0 ? undefined : { perSecond, maxNetworks: dns.rateNetworks, makeBuckets: options.limits.makeBuckets },
    random,
    metrics,
    onFault: (fault) => dnsLog.error({ err: fault }, "dns gateway failed to answer a query"),
  };
  const reload = () => {
    cookies.reload();
    zoneKeys?.reload();
    keys.reload();
  };
  return { options: made, answers: openDnsAnswers(made), reload };
}

function answerSettings({ settings: { dns, catalog }, identity }: Pick<DnsAnsweringOptions, "identity" | "settings">): DnsSettings {
  const zones = { zones: dns.zones.map(parseZone), reverseZones: reverseZoneNames(dns) };
  return { ...dns, ...zones, nodeId: identity.nodeId, defaultTtlMs: catalog.defaultLeaseTtlMs };
}

function withKeys(settings: DnsSettings, file: KeyFile | undefined): DnsSettings {
  return { ...settings, zoneKeys: file && (() => file.keys.keys) };
}

function openTransfers(options: DnsAnsweringOptions, viewers: readonly ViewerOfView[]): ZoneTransfers {
  const { settings, reads, policies, metrics, identity } = options;
  const answers = answerSettings(options);
  return new ZoneTransfers({
    reads,
    policies,
    clusterId: identity.clusterId,
    zones: answers.zones,
    blocks: reverseBlocks(settings.dns),
    catalog: settings.catalog,
    viewers,
    settings: answers,
    serialOf: serialsOf(options, viewers),
    metrics,
    log: options.log.child("dns"),
    onEnd: (ended) => noteTransfer(options, viewers, ended),
  });
}

/**
 * Makes the DNS answering for DnsService, with the visibility of each caller. Callers with their own credential get the serial that anonymous callers
 * get.
 */
export function nameAnswers(options: DnsAnsweringOptions, zoneKeys: KeyFile | undefined): NameAnswersParts {
  const { settings, reads, random, checkCaughtUp, remoteLookups } = options;
  const viewers = viewersOf(settings.dns, settings.node);
  return {
    settings: withKeys(answerSettings(options), zoneKeys),
    catalogOf: (caller, view) => dnsCatalog(random, { ...options, remoteLookup: remoteLookups?.of(caller) }, undefined, { view, caller }),
    viewers,
    // Calls to DnsService have no client subnet.
    views: new DnsViews(settings.dns.views, []),
    isAnonymousRefused: anonymousAccess(settings) === "none",
    serialOf: serialsOf(options, viewers),
    reads,
    checkCaughtUp,
    random,
    allowsViewerOverride: settings.tenants.allowRequestOverride,
  };
}

/**
 * Returns the serial of each view by its index, which is the serial of its class of viewers. Returns 0 while DNS is off, because no zone versions are
 * made then.
 */
function serialsOf(
  { zoneSerials }: Pick<DnsAnsweringOptions, "zoneSerials">,
  viewers: readonly ViewerOfView[],
): (viewIndex: number) => number {
  const { callers, ofView } = classesOf(viewers);
  const serials = new Uint32Array(zoneSerials ?? new SharedArrayBuffer(callers.length * Uint32Array.BYTES_PER_ELEMENT));
  return (viewIndex) => Atomics.load(serials, ofView[viewIndex] ?? 0);
}

/** Parses address blocks that the settings have already validated. */
function blocksOf(texts: readonly string[]): readonly AddressBlock[] {
  return texts.flatMap((text) => parseBlock(text) ?? []);
}

// Records zone transfers in the audit log: the key, the zone, the address and the amount of data.

interface AnswerNoting {
  readonly accessLog: Pick<AccessLog, "onTransfer">;
  readonly limits: Pick<NodeLimits, "noteDns">;
}

/**
 * The principal is `tsig:` followed by the name of the key, so it cannot equal the principal of a certificate or token. The tenant comes from the
 * view to which the key belongs.
 */
function noteTransfer({ accessLog, limits }: AnswerNoting, viewers: readonly ViewerOfView[], ended: EndedTransfer): void {
  const { keyName, zone, viewIndex, address, outcome, serial, recordCount, crowdedNameCount, sizeBytes } = ended;
  const viewer = viewers[viewIndex]?.caller;
  if (viewer === undefined) return;
  const caller = { ...viewer, principal: `tsig:${keyName}`, isAuthenticated: true, address };
  // A secondary that retries must not write more audit records than other refused callers.
  if (outcome === "refused")
    limits.noteDns({ caller, action: "transfer", namespace: "", reason: "quota_exceeded", detail: `zone ${zone}` });
  else {
    const sent = `${counted(recordCount, "record")}, ${counted(sizeBytes, "byte")}`;
    const inPart = crowdedNameCount === 0 ? "" : `, ${counted(crowdedNameCount, "crowded name")} truncated`;
    accessLog.onTransfer(caller, zone, `zone ${zone}, serial ${serial}, ${outcome}: ${sent}${inPart}`);
  }
}
