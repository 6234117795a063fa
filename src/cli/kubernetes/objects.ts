/** The Kubernetes objects of an import, with the fields that it reads: Services, EndpointSlices and Endpoints. */
import { z } from "zod";
import type { Place } from "../../lib/documents.ts";

export const DNS_LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

/** Whether DNS can answer with the name: labels of at most 63 characters, with or without the dot at the end. */
function isHostName(name: string): boolean {
  const host = name.replace(/\.$/, "");
  return host.length <= 253 && host.split(".").every((label) => /^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/.test(label));
}

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

export const SERVICE = z.object({
  metadata: METADATA.extend({ name: dnsLabel("metadata.name") }),
  spec: z
    .object(
      {
        type: z
          .enum(["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"], {
            error: "type is none of ClusterIP, NodePort, LoadBalancer, ExternalName",
          })
          .nullish(),
        clusterIP: text("clusterIP").nullish(),
        clusterIPs: z.array(text("cluster address"), { error: "clusterIPs is not a list" }).nullish(),
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
    )
    .superRefine(({ type, externalName }, context) => {
      if (type !== "ExternalName" || isHostName(externalName ?? "")) return;
      const message = externalName
        ? `${JSON.stringify(externalName.slice(0, 64))} is not a DNS name`
        : "is missing: an ExternalName has one";
      context.addIssue({ code: "custom", path: ["externalName"], message });
    }),
  status: z
    .object({
      loadBalancer: z
        .object({
          ingress: z
            .array(z.object({ ip: text("ip").nullish(), hostname: text("hostname").nullish() }), { error: "ingress is not a list" })
            .nullish(),
        })
        .nullish(),
    })
    .nullish(),
});

const targetRef = z.object({ kind: z.string().nullish(), name: z.string().nullish() }).nullish();
const endpointPorts = z
  .array(
    z.object({
      name: text("port name").nullish(),
      port: portNumber.nullish(),
      protocol: transport.nullish(),
      appProtocol: text("appProtocol").nullish(),
    }),
    { error: "ports is not a list" },
  )
  .nullish();

const flag = z.boolean({ error: "condition is neither true nor false" }).nullish();
export const SLICE = z.object({
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
          targetRef,
          hostname: dnsLabel("hostname").nullish(),
          nodeName: text("nodeName").nullish(),
          zone: text("zone").nullish(),
          deprecatedTopology: z.record(z.string(), z.string()).nullish(),
        },
        { error: "endpoint is not a map" },
      ),
      { error: "endpoints is not a list" },
    )
    .nullish(),
  ports: endpointPorts,
});

const ADDRESSES = z
  .array(
    z.object(
      { ip: text("ip"), targetRef, hostname: dnsLabel("hostname").nullish(), nodeName: text("nodeName").nullish() },
      { error: "address is not a map" },
    ),
    { error: "addresses is not a list" },
  )
  .nullish();
export const ENDPOINTS = z.object({
  metadata: METADATA.extend({ name: dnsLabel("metadata.name") }),
  subsets: z
    .array(z.object({ addresses: ADDRESSES, notReadyAddresses: ADDRESSES, ports: endpointPorts }, { error: "subset is not a map" }), {
      error: "subsets is not a list",
    })
    .nullish(),
});

export type Service = z.infer<typeof SERVICE>;
export type Slice = z.infer<typeof SLICE>;
export type Endpoint = NonNullable<Slice["endpoints"]>[number];
export type Endpoints = z.infer<typeof ENDPOINTS>;

/** Endpoints of a Service with the same ports: an EndpointSlice, or one half of a subset of `Endpoints`. */
export interface EndpointGroup {
  readonly endpoints: readonly { readonly endpoint: Endpoint; readonly place: Place }[];
  readonly ports: Slice["ports"];
}

export interface Located<T> {
  readonly value: T;
  readonly place: Place;
}
