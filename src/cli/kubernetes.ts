/**
 * Kubernetes manifests to entries: Services and EndpointSlices, as YAML documents or the lists of `kubectl get -o json`.
 * Pure: text in, entries and every problem out. Other kinds are counted and left alone.
 */
import { create } from "@bufbuild/protobuf";
import { z } from "zod";
import {
  type Entry,
  EntryKind,
  EntrySchema,
  HealthStatus,
  type Scope,
  type Target,
  TargetSchema,
} from "../../gen/waymark/catalog/v1/entry_pb.js";
import { type LineProblem, type Place, readDocuments } from "../lib/documents.ts";
import { checkEntries, type FileEntry } from "./entry-file.ts";

export interface KubernetesOptions {
  /** Kubernetes namespace `ns` becomes `<prefix>.ns`. */
  readonly namespacePrefix: string;
  /** Name of the owner, kept in the metadata of each entry. */
  readonly importer: string;
  /** Domain of cluster DNS names, `cluster.local`. */
  readonly clusterDomain: string;
  readonly scope: Scope;
}

export interface Manifest {
  /** Entries of everything that is sound, in key order. */
  readonly entries: readonly FileEntry[];
  readonly problems: readonly LineProblem[];
  /** Other kinds to how often they occurred. */
  readonly ignored: ReadonlyMap<string, number>;
  /** What was mapped or left out, in words. */
  readonly notes: readonly string[];
}

/** Metadata key that names the import which owns an entry. */
export const IMPORT_KEY = "waymark.import";
const SERVICE_LABEL = "kubernetes.io/service-name";
/** Instance id of the one entry of a Service whose endpoints are not in the input. */
const CLUSTER_INSTANCE = "cluster";
const MAX_METADATA_KEY_CHARS = 63;
const NAME = /^[A-Za-z0-9._:/@+-]{1,128}$/;
const DNS_LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

const text = (what: string) =>
  z.string({ error: (issue) => (issue.input === undefined ? `${what} is missing` : `${what} is not text (quote it)`) });
const dnsLabel = (what: string) => text(what).regex(DNS_LABEL, { error: `${what} is not a DNS label: a-z, 0-9 and -, at most 63` });
const portNumber = z
  .int({ error: "port is not a whole number" })
  .min(1, { error: "port is less than 1" })
  .max(65_535, { error: "port is more than 65535" });
const transport = z.enum(["TCP", "UDP", "SCTP"], { error: "protocol is none of TCP, UDP, SCTP" });

const METADATA = z.object({
  name: text("metadata.name"),
  namespace: dnsLabel("metadata.namespace").nullish(),
  labels: z.record(z.string(), text("label value"), { error: "labels is not a map" }).nullish(),
});

const SERVICE = z.object({
  metadata: METADATA.extend({ name: dnsLabel("metadata.name") }),
  spec: z.object(
    {
      type: z
        .enum(["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"], {
          error: "type is none of ClusterIP, NodePort, LoadBalancer, ExternalName",
        })
        .nullish(),
      clusterIP: text("clusterIP").nullish(),
      externalName: text("externalName").nullish(),
      ports: z
        .array(
          z.object(
            {
              name: text("port name").nullish(),
              port: portNumber,
              targetPort: z.union([portNumber, z.string()], { error: "targetPort is neither a port nor a name" }).nullish(),
              protocol: transport.nullish(),
              appProtocol: text("appProtocol").nullish(),
            },
            { error: "port is not a map" },
          ),
          { error: "ports is not a list" },
        )
        .nullish(),
    },
    { error: "spec is missing or not a map" },
  ),
});

const flag = z.boolean({ error: "condition is neither true nor false" }).nullish();
const SLICE = z.object({
  metadata: METADATA,
  addressType: z.enum(["IPv4", "IPv6", "FQDN"], { error: "addressType is none of IPv4, IPv6, FQDN" }),
  endpoints: z
    .array(
      z.object(
        {
          addresses: z
            .array(text("address"), { error: "addresses is not a list" })
            .min(1, { error: "addresses is empty" })
            .max(100, { error: "more than 100 addresses" }),
          conditions: z.object({ ready: flag, serving: flag, terminating: flag }).nullish(),
          targetRef: z.object({ kind: z.string().nullish(), name: z.string().nullish() }).nullish(),
          nodeName: text("nodeName").nullish(),
          zone: text("zone").nullish(),
          deprecatedTopology: z.record(z.string(), z.string()).nullish(),
        },
        { error: "endpoint is not a map" },
      ),
      { error: "endpoints is not a list" },
    )
    .nullish(),
  ports: z
    .array(
      z.object({
        name: text("port name").nullish(),
        port: portNumber.nullish(),
        protocol: transport.nullish(),
        appProtocol: text("appProtocol").nullish(),
      }),
      { error: "ports is not a list" },
    )
    .nullish(),
});

type Service = z.infer<typeof SERVICE>;
type Slice = z.infer<typeof SLICE>;
type Endpoint = NonNullable<Slice["endpoints"]>[number];

interface Located<T> {
  readonly value: T;
  readonly place: Place;
}

interface Found {
  readonly services: Map<string, Located<Service>>;
  readonly slices: Located<Slice>[];
  readonly problems: LineProblem[];
  readonly ignored: Map<string, number>;
  readonly notes: Set<string>;
}

/** Reads a manifest. A broken document is a problem with its line and does not hide the others. Never throws. */
export function readKubernetes(manifest: string, options: KubernetesOptions): Manifest {
  const { places, problems } = readDocuments(manifest);
  const found: Found = { services: new Map(), slices: [], problems: [...problems], ignored: new Map(), notes: new Set() };
  for (const place of places) collect(place, found, { isInList: false });
  const made = makeEntries(found, options);
  const entries = checkEntries(made, found.problems);
  return { entries, problems: found.problems.toSorted((a, b) => a.line - b.line), ignored: found.ignored, notes: [...found.notes] };
}

function collect(place: Place, found: Found, { isInList }: { readonly isInList: boolean }): void {
  const { value } = place;
  const field = (name: string): unknown => (typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined);
  const [kind, apiVersion, items] = [field("kind"), field("apiVersion"), field("items")];
  if (typeof kind !== "string" || typeof apiVersion !== "string") {
    found.problems.push({ line: place.line(), message: "is not a Kubernetes object: kind or apiVersion is missing" });
  } else if (kind.endsWith("List") && Array.isArray(items) && !isInList) {
    const list = place.at("items");
    for (let index = 0; index < items.length; index++) collect(list.at(index), found, { isInList: true });
  } else if (kind === "Service" && apiVersion === "v1") {
    const service = check(place, SERVICE, { kind, found });
    if (service) addService({ value: service, place }, found);
  } else if (kind === "EndpointSlice" && apiVersion === "discovery.k8s.io/v1") {
    const slice = check(place, SLICE, { kind, found });
    if (slice) found.slices.push({ value: slice, place });
  } else {
    // "Service" is also a kind of other groups, such as Knative's.
    const name = kind === "Service" || kind === "EndpointSlice" ? `${kind} of ${apiVersion}` : kind.slice(0, 128);
    found.ignored.set(name, (found.ignored.get(name) ?? 0) + 1);
  }
}

function check<T>(place: Place, schema: z.ZodType<T>, { kind, found }: { readonly kind: string; readonly found: Found }): T | undefined {
  const checked = schema.safeParse(place.value);
  if (checked.success) return checked.data;
  const name = place.at("metadata").at("name").value;
  const who = typeof name === "string" ? `${kind} ${name.slice(0, 128)}` : kind;
  for (const { path, message } of checked.error.issues) {
    found.problems.push({ line: place.line(path), message: `${who}: ${path.join(".")}: ${message}` });
  }
  return undefined;
}

function objectKey(namespace: string | null | undefined, name: string): string {
  return `${namespace ?? "default"}/${name}`;
}

function addService(service: Located<Service>, found: Found): void {
  const { namespace, name } = service.value.metadata;
  const key = objectKey(namespace, name);
  const first = found.services.get(key);
  if (first) found.problems.push({ line: service.place.line(), message: `Service ${name}: is also at line ${first.place.line()}` });
  else found.services.set(key, service);
}

function makeEntries(found: Found, options: KubernetesOptions): readonly FileEntry[] {
  const slicesOf = new Map<string, Located<Slice>[]>();
  for (const slice of found.slices) {
    const { namespace, labels, name } = slice.value.metadata;
    const service = labels?.[SERVICE_LABEL];
    if (service === undefined) found.notes.add(`EndpointSlice ${name}: left out, it names no Service (label ${SERVICE_LABEL})`);
    else if (!DNS_LABEL.test(service))
      found.problems.push({ line: slice.place.line(), message: `EndpointSlice ${name}: label ${SERVICE_LABEL}: not a DNS label` });
    else slicesOf.set(objectKey(namespace, service), [...(slicesOf.get(objectKey(namespace, service)) ?? []), slice]);
  }
  const entries: FileEntry[] = [];
  for (const key of new Set([...found.services.keys(), ...slicesOf.keys()])) {
    const service = found.services.get(key);
    const slices = slicesOf.get(key) ?? [];
    const [namespace = "", name = ""] = key.split("/");
    const maker = new ServiceEntries({ namespace, name, service: service?.value, options, notes: found.notes });
    if (slices.length > 0) entries.push(...maker.fromSlices(slices));
    else if (service) entries.push({ entry: maker.fromService(service.value), place: service.place });
  }
  return entries;
}

interface ServiceFacts {
  readonly namespace: string;
  readonly name: string;
  /** Undefined when only slices of it are in the input. */
  readonly service: Service | undefined;
  readonly options: KubernetesOptions;
  readonly notes: Set<string>;
}

/** Makes the entries of one Service. */
class ServiceEntries {
  readonly #facts: ServiceFacts;

  constructor(facts: ServiceFacts) {
    this.#facts = facts;
  }

  /** One entry that stands for all endpoints: reached under the Service's own name. */
  fromService(service: Service): Entry {
    const { namespace, name, options, notes } = this.#facts;
    const { type, externalName, ports } = service.spec;
    const isExternal = type === "ExternalName";
    const host = isExternal ? (externalName ?? "") : `${name}.${namespace}.svc.${options.clusterDomain}`;
    // Without endpoints in the input, a headless name leads straight to the pods: their port counts, not the Service's.
    const isHeadless = service.spec.clusterIP === "None";
    const targets = (ports ?? []).map((port) => {
      const number = isHeadless && typeof port.targetPort === "number" ? port.targetPort : port.port;
      return create(TargetSchema, { name: port.name ?? "", host, port: number, protocol: protocolOf(port) });
    });
    if (isExternal && targets.length === 0) notes.add(`Service ${name}: has an external name but no port, so its entry has no target`);
    const entry = this.#entry(CLUSTER_INSTANCE, isExternal ? { "kubernetes.external-name": host } : {});
    entry.targets = targets;
    return entry;
  }

  /** One entry an endpoint; slices that speak of the same endpoint (IPv4 and IPv6, other ports) are joined. */
  fromSlices(slices: readonly Located<Slice>[]): readonly FileEntry[] {
    const made = new Map<string, FileEntry>();
    // The order of slices in the input is chance; their names are not.
    for (const { value: slice, place } of slices.toSorted((a, b) => (a.value.metadata.name < b.value.metadata.name ? -1 : 1))) {
      for (const [index, endpoint] of (slice.endpoints ?? []).entries()) {
        const instance = instanceOf(endpoint);
        const known = made.get(instance);
        const entry = known?.entry ?? this.#endpointEntry(instance, endpoint);
        for (const target of targetsOf(slice, endpoint)) addTarget(entry.targets, target);
        if (known) known.entry.health = better(known.entry.health, healthOf(endpoint));
        else made.set(instance, { entry, place: place.at("endpoints").at(index) });
      }
    }
    return [...made.values()];
  }

  #endpointEntry(instance: string, endpoint: Endpoint): Entry {
    const { targetRef, nodeName, deprecatedTopology } = endpoint;
    const region = deprecatedTopology?.["topology.kubernetes.io/region"];
    const entry = this.#entry(instance, {
      ...(targetRef?.kind === "Pod" && typeof targetRef.name === "string" && { "kubernetes.pod": targetRef.name }),
      ...(typeof nodeName === "string" && { "kubernetes.node": nodeName }),
      ...(region !== undefined && { "kubernetes.region": region }),
    });
    entry.zone = endpoint.zone ?? deprecatedTopology?.["topology.kubernetes.io/zone"] ?? "";
    entry.health = healthOf(endpoint);
    return entry;
  }

  #entry(instanceId: string, facts: Readonly<Record<string, string>>): Entry {
    const { namespace, name, service, options } = this.#facts;
    const { tags, metadata } = this.#labels();
    const type = service?.spec.clusterIP === "None" ? "Headless" : service && (service.spec.type ?? "ClusterIP");
    return create(EntrySchema, {
      key: { kind: EntryKind.SERVICE, namespace: `${options.namespacePrefix}.${namespace}`, name, instanceId },
      scope: options.scope,
      health: HealthStatus.HEALTHY,
      tags,
      metadata: { ...metadata, ...facts, ...(type !== undefined && { "kubernetes.type": type }), [IMPORT_KEY]: options.importer },
    });
  }

  /** Labels as tags `key:value`, to filter by, and as metadata, to read. */
  #labels(): { readonly tags: string[]; readonly metadata: Readonly<Record<string, string>> } {
    const { service, name, notes } = this.#facts;
    const tags: string[] = [];
    const metadata: Record<string, string> = {};
    for (const [key, value] of Object.entries(service?.metadata.labels ?? {}).toSorted(([a], [b]) => (a < b ? -1 : 1))) {
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

/** The pod's name when it fits; else the first address. */
function instanceOf({ targetRef, addresses }: Endpoint): string {
  const pod = targetRef?.name;
  return typeof pod === "string" && NAME.test(pod) ? pod : (addresses[0] ?? "");
}

function targetsOf(slice: Slice, { addresses }: Endpoint): readonly Target[] {
  // All addresses of an endpoint mean the same; Kubernetes asks readers to use the first.
  const [host = ""] = addresses;
  return (slice.ports ?? []).flatMap((port) => {
    if (typeof port.port !== "number") return []; // No number means "all ports": nothing to connect to.
    const name = port.name ?? "";
    return create(TargetSchema, { name, host, port: port.port, protocol: protocolOf(port) });
  });
}

/** Names of targets are empty or unique: the same port at a second address goes without its name. */
function addTarget(targets: Target[], target: Target): void {
  if (targets.some(({ host, port, protocol }) => host === target.host && port === target.port && protocol === target.protocol)) return;
  if (target.name !== "" && targets.some(({ name }) => name === target.name)) target.name = "";
  targets.push(target);
}

/**
 * Readiness as health. Unset conditions mean ready, and serving as ready (Kubernetes' own defaults). An endpoint that
 * terminates is left to finish what it has: usable as long as it serves, never preferred.
 */
function healthOf({ conditions }: Endpoint): HealthStatus {
  const isReady = conditions?.ready ?? true;
  const isServing = conditions?.serving ?? isReady;
  if (conditions?.terminating === true) return isServing ? HealthStatus.DEGRADED : HealthStatus.MAINTENANCE;
  if (isReady) return HealthStatus.HEALTHY;
  return isServing ? HealthStatus.DEGRADED : HealthStatus.CRITICAL;
}

function better(a: HealthStatus, b: HealthStatus): HealthStatus {
  // The contract numbers them from fit to unfit.
  return a < b ? a : b;
}

interface PortWords {
  readonly name?: string | null | undefined;
  readonly protocol?: string | null | undefined;
  readonly appProtocol?: string | null | undefined;
}

/** Protocols a port's name may start with, as service meshes read them: `grpc`, `http-web`. */
const NAMED = new Set([
  "grpc",
  "grpc-web",
  "http",
  "http2",
  "https",
  "tls",
  "tcp",
  "mongo",
  "mysql",
  "redis",
  "amqp",
  "kafka",
  "nats",
  "ws",
  "wss",
]);

/** UDP and SCTP say how to connect; over TCP, `appProtocol` says what to speak, else the port's name. */
function protocolOf({ name, protocol, appProtocol }: PortWords): string {
  if (protocol === "UDP" || protocol === "SCTP") return protocol.toLowerCase();
  const app = appProtocol?.replace(/^kubernetes\.io\//, "").toLowerCase();
  if (app !== undefined && NAME.test(app)) return app;
  const word = name ?? "";
  if (NAMED.has(word)) return word;
  const first = word.startsWith("grpc-web-") ? "grpc-web" : (word.split("-")[0] ?? "");
  return NAMED.has(first) ? first : "tcp";
}
