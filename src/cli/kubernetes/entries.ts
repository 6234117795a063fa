/** Creates the entries for one Kubernetes Service, from the Service itself and from its endpoints. */
import { create } from "@bufbuild/protobuf";
import {
  type Entry,
  EntryKind,
  EntrySchema,
  HealthStatus,
  type Scope,
  type Target,
  TargetSchema,
} from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { METADATA_KEY } from "../../lib/bounds.ts";
import type { DocumentNode } from "../../lib/formats/documents.ts";
import { isProtocolWord, protocolWord, protocolOf as targetProtocol } from "../../lib/protocols.ts";
import type { FileEntry } from "../entries/file.ts";
import type { EndpointGroup, KubernetesService, LocatedObject, SliceEndpoint } from "./objects.ts";

export interface KubernetesOptions {
  /** The Kubernetes namespace `ns` becomes `<prefix>.ns`. */
  readonly namespacePrefix: string;
  /** Name of the owner, which is stored in the metadata of each entry. */
  readonly importer: string;
  /** Domain of cluster DNS names, `cluster.local`. */
  readonly clusterDomain: string;
  readonly scope: Scope;
  /** Addresses to register, at least one of: `endpoints`, `cluster` (addresses of the Service) and `load-balancer`. */
  readonly addresses: ReadonlySet<string>;
}

/** Instance ID of the single entry that represents all endpoints of a Service. */
const CLUSTER_INSTANCE = "cluster";
const LOAD_BALANCER_INSTANCE = "load-balancer";
const MAX_METADATA_KEY_CHARS = 63;
const NAME = /^[A-Za-z0-9._:/@+-]{1,128}$/;

interface ServiceFacts {
  readonly namespace: string;
  readonly name: string;
  /** Undefined if the input has only the EndpointSlices of the Service. */
  readonly service: LocatedObject<KubernetesService> | undefined;
  readonly options: KubernetesOptions;
  readonly notes: Set<string>;
}

/** An endpoint as listed in one EndpointSlice. */
interface EndpointPart {
  readonly endpoint: SliceEndpoint;
  readonly place: DocumentNode;
  readonly ports: EndpointGroup["ports"];
  readonly health: HealthStatus;
}

/** Creates the entries for one Service. */
export class ServiceEntries {
  readonly #facts: ServiceFacts;

  constructor(facts: ServiceFacts) {
    this.#facts = facts;
  }

  /** Returns the entries for the requested kinds of addresses. `groups` contains the endpoints, or is undefined if the input does not contain any. */
  make(groups: readonly EndpointGroup[] | undefined): readonly FileEntry[] {
    const { service, options, name, notes } = this.#facts;
    if (service?.value.spec.type === "ExternalName") return [{ entry: this.#external(service.value), place: service.place }];
    const entries: FileEntry[] = [];
    const { addresses } = options;
    if (service !== undefined) {
      if (addresses.has("cluster")) entries.push(...this.#fronted(CLUSTER_INSTANCE, clusterAddresses(service.value), service));
      if (addresses.has("load-balancer")) entries.push(...this.#fronted(LOAD_BALANCER_INSTANCE, balancerAddresses(service.value), service));
    }
    if (addresses.has("endpoints")) {
      if (groups !== undefined) entries.push(...this.#ofEndpoints(groups));
      else if (service !== undefined && !entries.some(({ entry }) => entry.key?.instanceId === CLUSTER_INSTANCE))
        entries.push({ entry: this.#ofName(service.value), place: service.place });
    } else if (entries.length === 0) notes.add(`Service ${name} was left out: it has none of the requested addresses`);
    return entries;
  }

  /** Creates one entry whose host is the external name or address. */
  #external({ spec: { externalName, ports } }: KubernetesService): Entry {
    const host = externalName ?? "";
    const entry = this.#entry(CLUSTER_INSTANCE, { "kubernetes.external-name": host });
    entry.targets = targetsAt(host, ports);
    return entry;
  }

  /** Creates one entry for all endpoints, with the Service's own name as its host. */
  #ofName({ spec: { clusterIP, ports } }: KubernetesService): Entry {
    const { namespace, name, options } = this.#facts;
    const host = `${name}.${namespace}.svc.${options.clusterDomain}`;
    // The name of a headless Service resolves to its pods, so the port is the pods' port.
    const isHeadless = clusterIP === "None";
    const entry = this.#entry(CLUSTER_INSTANCE, {});
    const reached = ports?.map((port) => (isHeadless && typeof port.targetPort === "number" ? { ...port, port: port.targetPort } : port));
    entry.targets = targetsAt(host, reached);
    return entry;
  }

  /** Creates one entry for all endpoints, with the addresses of the load balancer or Service. If there are no such addresses, no entry is created. */
  #fronted(instanceId: string, hosts: readonly string[], { value, place }: LocatedObject<KubernetesService>): readonly FileEntry[] {
    if (hosts.length === 0) return [];
    const entry = this.#entry(instanceId, {});
    for (const host of hosts) for (const target of targetsAt(host, value.spec.ports)) addTarget(entry.targets, target);
    return [{ entry, place }];
  }

  /** Creates one entry for each endpoint. If several groups contain the same endpoint (IPv4 and IPv6, or different ports), they are merged. */
  #ofEndpoints(groups: readonly EndpointGroup[]): readonly FileEntry[] {
    const areAllReady = this.#facts.service?.value.spec.publishNotReadyAddresses === true;
    const parts = groups.flatMap(({ endpoints, ports }) =>
      endpoints.map(({ endpoint, place }): EndpointPart => ({ endpoint, place, ports, health: healthOf(endpoint, areAllReady) })),
    );
    return [...Map.groupBy(parts, ({ endpoint }) => instanceOf(endpoint))].map(([instance, own]) => this.#joined(instance, own));
  }

  /**
   * Builds the entry of an endpoint. Each address has its own conditions, but an entry has only one health value for all targets. Therefore, only the
   * addresses in the best state become targets.
   */
  #joined(instance: string, parts: readonly EndpointPart[]): FileEntry {
    // The numbers of the health states in the proto ascend from healthy to unhealthy.
    const best = parts.reduce((a, b) => (b.health < a.health ? b : a));
    const entry = this.#endpointEntry(instance, best);
    for (const { endpoint, health, ports } of parts)
      if (health === best.health) for (const target of targetsAt(hostOf(endpoint), ports)) addTarget(entry.targets, target);
    const shown = new Set(entry.targets.map(({ host }) => host));
    for (const host of new Set(parts.map(({ endpoint }) => hostOf(endpoint))))
      if (!shown.has(host))
        this.#facts.notes.add(
          `Service ${this.#facts.name}: ${host} of ${instance} was left out: other addresses of ${instance} have better health`,
        );
    return { entry, place: best.place };
  }

  #endpointEntry(instance: string, { endpoint, health }: EndpointPart): Entry {
    const { targetRef, nodeName, deprecatedTopology } = endpoint;
    const region = deprecatedTopology?.["topology.kubernetes.io/region"];
    const entry = this.#entry(instance, {
      ...(targetRef?.kind === "Pod" && typeof targetRef.name === "string" && { "kubernetes.pod": targetRef.name }),
      ...(typeof nodeName === "string" && { "kubernetes.node": nodeName }),
      ...(region !== undefined && { "kubernetes.region": region }),
    });
    // A name below the Service's name that resolves only to this endpoint (semantics.md, DNS).
    if (typeof endpoint.hostname === "string") entry.aliases = [this.#nameBelow(endpoint.hostname)];
    entry.zone = endpoint.zone ?? deprecatedTopology?.["topology.kubernetes.io/zone"] ?? "";
    entry.health = health;
    return entry;
  }

  #nameBelow(label: string): string {
    const { namespace, name, options } = this.#facts;
    return `${label}.${name}.${options.namespacePrefix}.${namespace}`;
  }

  #entry(instanceId: string, facts: Readonly<Record<string, string>>): Entry {
    const { namespace, name, service, options } = this.#facts;
    const { tags, metadata } = this.#labels();
    const spec = service?.value.spec;
    const type = spec?.clusterIP === "None" ? "Headless" : spec && (spec.type ?? "ClusterIP");
    return create(EntrySchema, {
      key: { kind: EntryKind.SERVICE, namespace: `${options.namespacePrefix}.${namespace}`, name, instanceId },
      scope: options.scope,
      health: HealthStatus.HEALTHY,
      tags,
      metadata: { ...metadata, ...facts, ...(type !== undefined && { "kubernetes.type": type }), [METADATA_KEY.IMPORT]: options.importer },
    });
  }

  /** Converts labels to metadata, and to tags of the form `key:value` for filters. */
  #labels(): { readonly tags: string[]; readonly metadata: Readonly<Record<string, string>> } {
    const { service, name, notes } = this.#facts;
    const tags: string[] = [];
    const metadata: Record<string, string> = {};
    for (const [key, value] of Object.entries(service?.value.metadata.labels ?? {}).toSorted(([a], [b]) => (a < b ? -1 : 1))) {
      const tag = value === "" ? key : `${key}:${value}`;
      const isTag = NAME.test(tag);
      const isKey = NAME.test(key) && key.length <= MAX_METADATA_KEY_CHARS;
      if (isTag) tags.push(tag);
      if (isKey) metadata[key] = value;
      if (!isTag || !isKey)
        notes.add(
          `Service ${name}: label ${key}: ${isTag ? "too long for metadata, kept as a tag" : isKey ? "no tag, kept as metadata" : "left out"}`,
        );
    }
    return { tags, metadata };
  }
}

/** Returns the pod's name if it is a valid instance ID, or the first address if it is not. */
function instanceOf({ targetRef, addresses }: SliceEndpoint): string {
  const pod = targetRef?.name;
  return typeof pod === "string" && NAME.test(pod) ? pod : (addresses[0] ?? "");
}

/** The cluster addresses. A headless Service has `None` instead of an address. */
function clusterAddresses({ spec: { clusterIP, clusterIPs } }: KubernetesService): readonly string[] {
  const all = [...(typeof clusterIP === "string" ? [clusterIP] : []), ...(clusterIPs ?? [])];
  return [...new Set(all)].filter((address) => address !== "" && address !== "None");
}

function balancerAddresses({ status }: KubernetesService): readonly string[] {
  const ingress = status?.loadBalancer?.ingress ?? [];
  return ingress.map(({ ip, hostname }) => ip ?? hostname ?? "").filter((host) => host !== "");
}

/** Returns one target for each port with a number, or one target without a port if no port has a number. */
function targetsAt(host: string, ports: readonly ManifestPort[] | null | undefined): Target[] {
  const targets = (ports ?? []).flatMap((port) =>
    typeof port.port === "number"
      ? [create(TargetSchema, { name: port.name ?? "", host, port: port.port, protocol: protocolOf(port) })]
      : [],
  );
  return targets.length > 0 ? targets : [create(TargetSchema, { host })];
}

/** Returns the address of an endpoint. All addresses are equivalent, and the Kubernetes API requires clients to use the first. */
function hostOf({ addresses: [host = ""] }: SliceEndpoint): string {
  return host;
}

/** Adds a target unless it already exists. Target names must be unique, so the same port on a second address loses its name. */
function addTarget(targets: Target[], target: Target): void {
  const isThere = () =>
    targets.some(
      ({ name, host, port, protocol }) =>
        name === target.name && host === target.host && port === target.port && protocol === target.protocol,
    );
  if (isThere()) return;
  if (target.name !== "" && targets.some(({ name }) => name === target.name)) target.name = "";
  if (!isThere()) targets.push(target);
}

/**
 * Maps readiness to health. As in Kubernetes, unset conditions mean ready, and `serving` defaults to `ready`. A terminating endpoint is usable as
 * long as it is serving, but it is not preferred. `isReadyAnyway` means that the Service publishes its endpoints regardless of their conditions.
 */
function healthOf({ conditions }: SliceEndpoint, isReadyAnyway: boolean): HealthStatus {
  if (isReadyAnyway) return HealthStatus.HEALTHY;
  const isReady = conditions?.ready ?? true;
  const isServing = conditions?.serving ?? isReady;
  if (conditions?.terminating === true) return isServing ? HealthStatus.DEGRADED : HealthStatus.MAINTENANCE;
  if (isReady) return HealthStatus.HEALTHY;
  return isServing ? HealthStatus.DEGRADED : HealthStatus.CRITICAL;
}

interface ManifestPort extends PortWords {
  readonly port?: number | null | undefined;
}

interface PortWords {
  readonly name?: string | null | undefined;
  readonly protocol?: string | null | undefined;
  readonly appProtocol?: string | null | undefined;
}

/**
 * Returns the protocol of a port. For UDP and SCTP, this is the protocol itself. For TCP, it is `appProtocol` or the first part of the port's name.
 */
function protocolOf({ name, protocol, appProtocol }: PortWords): string {
  if (protocol === "UDP" || protocol === "SCTP") return protocolWord(protocol);
  const app = appProtocol?.replace(/^kubernetes\.io\//, "");
  if (app && NAME.test(app)) return protocolWord(app);
  const word = name ?? "";
  if (isTcpProtocol(word)) return word;
  const first = word.startsWith("grpc-web-") ? "grpc-web" : (word.split("-")[0] ?? "");
  return isTcpProtocol(first) ? first : "tcp";
}

/** Whether a port name or its first part is a protocol over TCP, as interpreted by service meshes: `grpc`, `http-web`. */
function isTcpProtocol(word: string): boolean {
  return isProtocolWord(word) && targetProtocol(word).transport === "tcp";
}
