/** Defines the Kubernetes objects for an import, with the fields that are read: Services, EndpointSlices and Endpoints. */
import { z } from "zod";
import { isIpv4 } from "../../lib/addresses.ts";
import type { DocumentNode } from "../../lib/formats/documents.ts";

export const DNS_LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

/** Whether a target may have this host: an IPv4 address, or a DNS name whose labels have at most 63 characters, with or without a trailing dot. */
function isHostName(name: string): boolean {
  const host = name.replace(/\.$/, "");
  // A top-level domain is never a number, so this is an address or a typo (RFC 3696, section 2).
  if (/(?:^|\.)\d+$/.test(host)) return isIpv4(name);
  return host.length <= 253 && host.split(".").every((label) => /^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/.test(label));
}

const text = (what: string) =>
  z.string({ error: (issue) => (issue.input === undefined ? `${what} is missing` : `${what} is not a string (quote it)`) });
const dnsLabel = (what: string) =>
  text(what).regex(DNS_LABEL, { error: `${what} is not a DNS label: allowed characters are a-z, 0-9 and - (max 63)` });
const portNumber = z
  .int({ error: "port is not a whole number" })
  .min(1, { error: "port is less than 1" })
  .max(65_535, { error: "port is more than 65535" });
const oneOf = <const W extends readonly string[]>(what: string, words: W) =>
  z.enum(words, { error: `${what} is not one of ${words.join(", ")}` });
/** An object with at least these fields. */
const map = <S extends z.ZodRawShape>(what: string, shape: S) => z.object(shape, { error: `${what} is not a map` });
/** A list that may be absent. */
const list = <T extends z.ZodType>(what: string, item: T) => z.array(item, { error: `${what} is not a list` }).nullish();

const METADATA = z.object({
  name: text("metadata.name"),
  namespace: dnsLabel("metadata.namespace").nullish(),
  labels: z.record(z.string(), text("label value"), { error: "labels is not a map" }).nullish(),
});

/** Fields of the ports of Services and endpoints. */
const PORT = {
  name: text("port name").nullish(),
  protocol: oneOf("protocol", ["TCP", "UDP", "SCTP"]).nullish(),
  appProtocol: text("appProtocol").nullish(),
};

export const SERVICE = z.object({
  metadata: METADATA.extend({ name: dnsLabel("metadata.name") }),
  spec: z
    .object(
      {
        type: oneOf("type", ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]).nullish(),
        clusterIP: text("clusterIP").nullish(),
        clusterIPs: list("clusterIPs", text("cluster address")),
        externalName: text("externalName").nullish(),
        publishNotReadyAddresses: z.boolean({ error: "publishNotReadyAddresses is neither true nor false" }).nullish(),
        ports: list(
          "ports",
          map("port", {
            ...PORT,
            port: portNumber,
            targetPort: z.union([portNumber, z.string()], { error: "targetPort is neither a port nor a name" }).nullish(),
          }),
        ),
      },
      { error: "spec is missing or not a map" },
    )
    .superRefine(({ type, externalName }, context) => {
      if (type !== "ExternalName" || isHostName(externalName ?? "")) return;
      const message = externalName
        ? `${JSON.stringify(externalName.slice(0, 64))} is not a DNS name`
        : "is missing: it is required for a Service of type ExternalName";
      context.addIssue({ code: "custom", path: ["externalName"], message });
    }),
  status: z
    .object({
      loadBalancer: z
        .object({ ingress: list("ingress", z.object({ ip: text("ip").nullish(), hostname: text("hostname").nullish() })) })
        .nullish(),
    })
    .nullish(),
});

const flag = z.boolean({ error: "condition is neither true nor false" }).nullish();
/** Fields of one endpoint in EndpointSlices and Endpoints. */
const ENDPOINT = {
  targetRef: z.object({ kind: z.string().nullish(), name: z.string().nullish() }).nullish(),
  hostname: dnsLabel("hostname").nullish(),
  nodeName: text("nodeName").nullish(),
};
const endpointPorts = list("ports", z.object({ ...PORT, port: portNumber.nullish() }));

export const SLICE = z.object({
  metadata: METADATA,
  addressType: oneOf("addressType", ["IPv4", "IPv6", "FQDN"]),
  endpoints: list(
    "endpoints",
    map("endpoint", {
      ...ENDPOINT,
      addresses: z
        .array(text("address"), { error: "addresses is not a list" })
        .min(1, { error: "addresses is empty" })
        .max(100, { error: "more than 100 addresses" }),
      conditions: z.object({ ready: flag, serving: flag, terminating: flag }).nullish(),
      zone: text("zone").nullish(),
      deprecatedTopology: z.record(z.string(), z.string()).nullish(),
    }),
  ),
  ports: endpointPorts,
});

const addresses = list("addresses", map("address", { ...ENDPOINT, ip: text("ip") }));
export const ENDPOINTS = z.object({
  metadata: METADATA.extend({ name: dnsLabel("metadata.name") }),
  subsets: list("subsets", map("subset", { addresses, notReadyAddresses: addresses, ports: endpointPorts })),
});

export type KubernetesService = z.infer<typeof SERVICE>;
export type EndpointSlice = z.infer<typeof SLICE>;
export type SliceEndpoint = NonNullable<EndpointSlice["endpoints"]>[number];
export type KubernetesEndpoints = z.infer<typeof ENDPOINTS>;

/** A Service's endpoints that have the same ports: an EndpointSlice, or one half of a subset in `KubernetesEndpoints`. */
export interface EndpointGroup {
  readonly endpoints: readonly { readonly endpoint: SliceEndpoint; readonly place: DocumentNode }[];
  readonly ports: EndpointSlice["ports"];
}

export interface LocatedObject<T> {
  readonly value: T;
  readonly place: DocumentNode;
}
