/** The verb that runs a node. */
import { Option } from "commander";
import { anonymousAccess, hasTls } from "../../config/exposure.ts";
import { SETTING_ROWS, type Settings } from "../../config/settings.ts";
import { GRPC_PORT, hostPort, splitHostPort } from "../../lib/addresses.ts";
import { UsageError } from "../exit.ts";
import type { Flags } from "../flags.ts";
import type { VerbFunction } from "../table/verb.ts";
import { readForNode } from "./config.ts";

function settingFlags(flags: Flags): ReadonlyMap<string, string | true> {
  const given = new Map<string, string | true>();
  for (const { path, setting } of SETTING_ROWS) {
    if (setting.flag === undefined) continue;
    const name = new Option(setting.flag).attributeName();
    const value = flags.text(name) ?? flags.isOn(name);
    if (value !== false) given.set(path, value);
  }
  return given;
}

export const serve: VerbFunction = async ({ environment, flags, out }) => {
  const joinTokenFile = flags.text("joinTokenFile");
  const certificates = await environment.certificates();
  const effective = await readForNode(environment, flags.text("config"), settingFlags(flags), (read) =>
    certificates.identified(read, joinTokenFile),
  );
  const { settings } = effective;
  const { node } = settings;
  const hasDemo = flags.isOn("demo");
  if (hasDemo && node.mode === "resolver") throw new UsageError("--demo requires a node: a resolver rejects registrations");
  // A plaintext client in the node's own process registers the demo catalog. The client's code is loaded on demand.
  if (hasDemo && hasTls(settings)) throw new UsageError("--demo requires a node without TLS");
  await environment.serve({
    effective,
    ...(hasDemo && { beforeReady: async (grpc: string) => (await import("./import.ts")).loadDemo(environment, grpc, out) }),
    onReady: ({ nodeId, listeners, fault }) => {
      const said = fault === "" ? { event: "ready" } : { event: "not_ready", fault };
      out.line({ ...said, node_id: nodeId, listeners });
      if (!out.isMachine)
        out.note(
          ...(node.mode === "resolver"
            ? resolverLines(nodeId, listeners, settings)
            : readyLines(nodeId, { listeners, settings, fault, hasDemo })),
        );
    },
  });
};

type ListenerAddresses = Readonly<Record<string, string>>;

/** Like `readyLines`, but for a resolver, which does not accept registrations. */
function resolverLines(nodeId: string, listeners: ListenerAddresses, settings: Settings): readonly string[] {
  const flags = (access: "read" | "full") => connectionFlags(listeners, settings, access) || ` --server ${listeners["grpc"] ?? ""}`;
  const tries = [`  ./bin/waymark discovery query${flags("read")}`, `  ./bin/waymark resolver cache-stats${flags("full")}`];
  return [`resolver ${nodeId} is ready: ${placesText(listeners, hasTls(settings))}`, "try, in another terminal:", ...tries];
}

/**
 * Returns the flags that a command needs to connect to this node: to read the catalog, or with `full` also to change it or to use a role. Empty if the
 * defaults are sufficient.
 * Values that are unknown to the node are placeholders in capital letters. With TLS, the host is the advertised host, because the certificate was
 * issued for that host.
 */
function connectionFlags({ grpc = "" }: ListenerAddresses, settings: Settings, access: "read" | "full"): string {
  const { tls, listen } = settings;
  const isTls = hasTls(settings);
  const server = isTls && listen.advertiseHost !== undefined ? hostPort(listen.advertiseHost, splitHostPort(grpc).port) : grpc;
  const anonymous = anonymousAccess(settings);
  const needsToken = !tls.requireClientCert && (access === "full" ? anonymous !== "all" : anonymous === "none");
  return [
    ...(server === `127.0.0.1:${GRPC_PORT}` ? [] : [` --server ${server}`]),
    ...(isTls ? [` --ca ${tls.source === "identity" ? tls.caFile : "CA-FILE"}`] : []),
    ...(tls.requireClientCert ? [" --cert CERTIFICATE-FILE --key KEY-FILE"] : []),
    ...(needsToken ? [" --token TOKEN"] : []),
  ].join("");
}

const LISTENER_NAMES = { grpc: "gRPC", http: "HTTP", dns: "DNS", dot: "DNS over TLS", fabric: "fabric" };

const TLS_SCHEMES: Readonly<Record<string, string>> = { grpc: "grpcs://", http: "https://" };

/** All listener addresses: `gRPC 127.0.0.1:17420, HTTP …`, or with TLS `gRPC grpcs://127.0.0.1:17420, HTTP https://…`. */
function placesText(listeners: ListenerAddresses, isTls: boolean): string {
  const places = Object.entries(LISTENER_NAMES).map(([key, name]) =>
    listeners[key] === undefined ? "" : `${name} ${isTls ? (TLS_SCHEMES[key] ?? "") : ""}${listeners[key]}`,
  );
  return places.filter((place) => place !== "").join(", ");
}

/** Returns notes about the addresses of a node that has just started, and commands to try. */
function readyLines(
  nodeId: string,
  {
    listeners,
    settings,
    fault,
    hasDemo,
  }: { readonly listeners: ListenerAddresses; readonly settings: Settings; readonly fault: string; readonly hasDemo: boolean },
): readonly string[] {
  const { http = "", dns } = listeners;
  const flags = connectionFlags(listeners, settings, hasDemo ? "read" : "full");
  const [host = "", port = ""] = dns === undefined ? [] : [dns.slice(0, dns.lastIndexOf(":")), dns.slice(dns.lastIndexOf(":") + 1)];
  const tries = hasDemo
    ? [
        `  ./bin/waymark discovery query --prefix k8s${flags}`,
        ...(dns === undefined ? [] : [`  dig @${host} -p ${port} cartservice.k8s.default.waymark`]),
        `  curl -s http://${http}/sd/prometheus`,
      ]
    : [`  ./bin/waymark register --namespace svc.market --name web --instance web-1 --target 10.0.0.1:8080/http${flags}`];
  const where = placesText(listeners, hasTls(settings));
  if (fault !== "") return [`node ${nodeId} is not ready (${fault}): ${where}`];
  return [`node ${nodeId} is ready: ${where}`, "try, in another terminal:", ...tries];
}
