/**
 * Converts Kubernetes manifests to entries: Services, EndpointSlices and Endpoints, as YAML documents or as lists from `kubectl get -o json`.
 * Objects of other kinds are only counted.
 */
import type { z } from "zod";
import { uncallableReason } from "../../lib/addresses.ts";
import { type DocumentNode, type LineProblem, readDocuments } from "../../lib/formats/documents.ts";
import { checkEntries, type FileEntry } from "../entries/file.ts";
import { type KubernetesOptions, ServiceEntries } from "./entries.ts";
import {
  DNS_LABEL,
  ENDPOINTS,
  type EndpointGroup,
  type EndpointSlice,
  type KubernetesEndpoints,
  type KubernetesService,
  type LocatedObject,
  SERVICE,
  SLICE,
} from "./objects.ts";

export interface Manifest {
  /** The valid entries, in key order. */
  readonly entries: readonly FileEntry[];
  readonly problems: readonly LineProblem[];
  /** The number of objects of each other kind. */
  readonly ignored: ReadonlyMap<string, number>;
  /** Notes about objects that were mapped or skipped. */
  readonly notes: readonly string[];
}

const SERVICE_LABEL = "kubernetes.io/service-name";

interface ManifestObjects {
  readonly services: Map<string, LocatedObject<KubernetesService>>;
  readonly slices: LocatedObject<EndpointSlice>[];
  readonly endpoints: Map<string, LocatedObject<KubernetesEndpoints>>;
  readonly problems: LineProblem[];
  readonly ignored: Map<string, number>;
  readonly notes: Set<string>;
}

/** Reads a manifest. Reports each invalid document with its line, and reads the other documents. Never throws. */
export function readKubernetes(manifest: string, options: KubernetesOptions): Manifest {
  const { places, problems } = readDocuments(manifest);
  const found: ManifestObjects = {
    services: new Map(),
    slices: [],
    endpoints: new Map(),
    problems: [...problems],
    ignored: new Map(),
    notes: new Set(),
  };
  for (const place of places) collect(place, found);
  const made = makeEntries(found, options);
  const entries = checkEntries(made, found.problems);
  return { entries, problems: found.problems.toSorted((a, b) => a.line - b.line), ignored: found.ignored, notes: [...found.notes] };
}

/** Kind and version of list items that do not have their own kind, as in the output of `kubectl get --raw`. */
interface ListedAs {
  readonly kind: string;
  readonly apiVersion: string;
}

/**
 * Collects a document or a list item. For items without their own kind, `listedAs` contains the kind and version. A list within a list is not read as
 * a list.
 */
function collect(place: DocumentNode, found: ManifestObjects, listedAs?: ListedAs): void {
  const { value } = place;
  if (Array.isArray(value) && value.length > 0 && listedAs === undefined) {
    for (const index of value.keys()) collect(place.at(index), found, { kind: "", apiVersion: "" });
    return;
  }
  const field = (name: string): unknown => (typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined);
  const items = field("items");
  const kind = field("kind") ?? listedAs?.kind;
  const apiVersion = field("apiVersion") ?? listedAs?.apiVersion;
  if (typeof kind !== "string" || typeof apiVersion !== "string" || kind === "" || apiVersion === "") {
    found.problems.push({ line: place.line(), message: "is not a Kubernetes object: kind or apiVersion is missing" });
  } else if (kind.endsWith("List") && Array.isArray(items) && listedAs === undefined) {
    const list = place.at("items");
    // The items of a `List` have their own kinds. The items of a `ServiceList` are Services.
    const one = kind === "List" ? { kind: "", apiVersion: "" } : { kind: kind.slice(0, -"List".length), apiVersion };
    for (const index of items.keys()) collect(list.at(index), found, one);
  } else collectObject(place, { kind, apiVersion }, found);
}

function collectObject(place: DocumentNode, { kind, apiVersion }: ListedAs, found: ManifestObjects): void {
  if (kind === "Service" && apiVersion === "v1") {
    const service = check(place, SERVICE, { kind, found });
    if (service) addOnce({ value: service, place }, found.services, { kind, found });
  } else if (kind === "Endpoints" && apiVersion === "v1") {
    const endpoints = check(place, ENDPOINTS, { kind, found });
    if (endpoints) addOnce({ value: endpoints, place }, found.endpoints, { kind, found });
  } else if (kind === "EndpointSlice" && apiVersion === "discovery.k8s.io/v1") {
    const slice = check(place, SLICE, { kind, found });
    if (slice) found.slices.push({ value: slice, place });
  } else {
    // Other API groups, such as Knative's, also have a kind "Service".
    const isOurs = kind === "Service" || kind === "EndpointSlice" || kind === "Endpoints";
    const name = isOurs ? `${kind} of ${apiVersion}` : kind.slice(0, 128);
    found.ignored.set(name, (found.ignored.get(name) ?? 0) + 1);
  }
}

function check<T>(
  place: DocumentNode,
  schema: z.ZodType<T>,
  { kind, found }: { readonly kind: string; readonly found: ManifestObjects },
): T | undefined {
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

function addOnce<T extends KubernetesService | KubernetesEndpoints>(
  object: LocatedObject<T>,
  known: Map<string, LocatedObject<T>>,
  { kind, found }: { readonly kind: string; readonly found: ManifestObjects },
): void {
  const { namespace, name } = object.value.metadata;
  const key = objectKey(namespace, name);
  const first = known.get(key);
  if (first)
    found.problems.push({ line: object.place.line(), message: `${kind} ${name} is already defined at line ${first.place.line()}` });
  else known.set(key, object);
}

function makeEntries(found: ManifestObjects, options: KubernetesOptions): readonly FileEntry[] {
  const groupsOf = endpointGroups(found);
  const entries: FileEntry[] = [];
  for (const key of new Set([...found.services.keys(), ...groupsOf.keys()])) {
    const [namespace = "", name = ""] = key.split("/");
    const maker = new ServiceEntries({ namespace, name, service: found.services.get(key), options, notes: found.notes });
    const made = maker.make(groupsOf.get(key));
    for (const { entry } of made) entry.targets = entry.targets.filter(({ host }) => isCallable(host, `Service ${name}`, found.notes));
    // An entry without a target would be served as healthy, but clients could not connect to it.
    entries.push(...made.filter(({ entry }) => entry.targets.length > 0));
  }
  return entries;
}

function isCallable(host: string, subject: string, notes: Set<string>): boolean {
  const reason = uncallableReason(host);
  if (reason !== undefined) notes.add(`${subject}: target ${host} was left out: ${reason}`);
  return reason === undefined;
}

/**
 * Returns the endpoints of each Service, from its EndpointSlices or, if it has none, from its Endpoints. If a Service has both, they contain the same
 * endpoints.
 */
function endpointGroups(found: ManifestObjects): ReadonlyMap<string, readonly EndpointGroup[]> {
  const slicesOf = new Map<string, LocatedObject<EndpointSlice>[]>();
  for (const slice of found.slices) {
    const { namespace, labels, name } = slice.value.metadata;
    const service = labels?.[SERVICE_LABEL];
    if (service === undefined)
      found.notes.add(`EndpointSlice ${name} was left out: it has no label ${SERVICE_LABEL} that names its Service`);
    else if (!DNS_LABEL.test(service))
      found.problems.push({ line: slice.place.line(), message: `EndpointSlice ${name}: label ${SERVICE_LABEL} is not a DNS label` });
    else slicesOf.set(objectKey(namespace, service), [...(slicesOf.get(objectKey(namespace, service)) ?? []), slice]);
  }
  const groups = new Map<string, readonly EndpointGroup[]>();
  for (const [key, { value, place }] of found.endpoints) groups.set(key, groupsOfEndpoints(value, place));
  for (const [key, slices] of slicesOf) {
    // The order of slices is arbitrary, so they are sorted by name.
    const sorted = slices.toSorted((a, b) => (a.value.metadata.name < b.value.metadata.name ? -1 : 1));
    groups.set(key, sorted.map(groupOfSlice));
  }
  return groups;
}

function groupOfSlice({ value, place }: LocatedObject<EndpointSlice>): EndpointGroup {
  const list = place.at("endpoints");
  return { endpoints: (value.endpoints ?? []).map((endpoint, index) => ({ endpoint, place: list.at(index) })), ports: value.ports };
}

function groupsOfEndpoints({ subsets }: KubernetesEndpoints, place: DocumentNode): readonly EndpointGroup[] {
  return (subsets ?? []).flatMap((subset, number) =>
    (["addresses", "notReadyAddresses"] as const).map((half) => {
      const list = place.at("subsets").at(number).at(half);
      const conditions = { ready: half === "addresses" };
      const endpoints = (subset[half] ?? []).map(({ ip, ...rest }, index) => ({
        endpoint: { addresses: [ip], conditions, ...rest },
        place: list.at(index),
      }));
      return { endpoints, ports: subset.ports };
    }),
  );
}
