/** The verb that runs a node. */
import { Option } from "commander";
import { SETTING_ROWS } from "../../config/settings.ts";
import { GRPC_PORT } from "../../lib/addresses.ts";
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
  const effective = await readForNode(environment, flags.text("config"), settingFlags(flags));
  const { node, tls } = effective.settings;
  const hasDemo = flags.isOn("demo");
  const isTls = tls.certFile !== undefined;
  if (hasDemo && node.mode === "resolver") throw new UsageError("--demo is for a node: a resolver registers nothing");
  // The demo is registered through the node's own listener, as by any client. What reads it is loaded only for it.
  if (hasDemo && isTls) throw new UsageError("--demo is for a node without TLS");
  await environment.serve({
    effective,
    ...(hasDemo && { beforeReady: async (grpc: string) => (await import("./import.ts")).loadDemo(environment, grpc, out) }),
    onReady: ({ nodeId, listeners, fault }) => {
      const said = fault === "" ? { event: "ready" } : { event: "not_ready", fault };
      out.line({ ...said, node_id: nodeId, listeners });
      if (!out.isMachine)
        out.note(
          ...(node.mode === "resolver"
            ? resolverLines(nodeId, listeners, isTls)
            : readyLines(nodeId, { listeners, isTls, fault, hasDemo })),
        );
    },
  });
};

type ListenerAddresses = Readonly<Record<string, string>>;

/** As `readyLines`, of a resolver, which takes no registrations. */
function resolverLines(nodeId: string, listeners: ListenerAddresses, isTls: boolean): readonly string[] {
  const { grpc = "" } = listeners;
  const tries = [`  ./bin/waymark discovery query --server ${grpc}`, `  ./bin/waymark resolver cache-stats --server ${grpc}`];
  return [`resolver ${nodeId} is ready: ${placesText(listeners, isTls)}`, "try, in another terminal:", ...tries];
}

const LISTENER_NAMES = { grpc: "gRPC", http: "HTTP", dns: "DNS", dot: "DNS over TLS", fabric: "fabric" };

const TLS_SCHEMES: Readonly<Record<string, string>> = { grpc: "grpcs://", http: "https://" };

/** `gRPC 127.0.0.1:17420, HTTP …`: all listener addresses. With TLS: `gRPC grpcs://127.0.0.1:17420, HTTP https://…`. */
function placesText(listeners: ListenerAddresses, isTls: boolean): string {
  const places = Object.entries(LISTENER_NAMES).map(([key, name]) =>
    listeners[key] === undefined ? "" : `${name} ${isTls ? (TLS_SCHEMES[key] ?? "") : ""}${listeners[key]}`,
  );
  return places.filter((place) => place !== "").join(", ");
}

/** Notes for a person who just started a node: its addresses, and commands to try. */
function readyLines(
  nodeId: string,
  {
    listeners,
    isTls,
    fault,
    hasDemo,
  }: { readonly listeners: ListenerAddresses; readonly isTls: boolean; readonly fault: string; readonly hasDemo: boolean },
): readonly string[] {
  const { grpc = "", http = "", dns } = listeners;
  const server = grpc === `127.0.0.1:${GRPC_PORT}` ? "" : ` --server ${grpc}`;
  const [host = "", port = ""] = dns === undefined ? [] : [dns.slice(0, dns.lastIndexOf(":")), dns.slice(dns.lastIndexOf(":") + 1)];
  const tries = hasDemo
    ? [
        `  ./bin/waymark discovery query --prefix k8s${server}`,
        ...(dns === undefined ? [] : [`  dig @${host} -p ${port} cartservice.k8s.default.waymark`]),
        `  curl -s http://${http}/sd/prometheus`,
      ]
    : [`  ./bin/waymark register --namespace svc.market --name web --instance web-1 --target 10.0.0.1:8080/http${server}`];
  const where = placesText(listeners, isTls);
  if (fault !== "") return [`node ${nodeId} is not ready (${fault}): ${where}`];
  return [`node ${nodeId} is ready: ${where}`, "try, in another terminal:", ...tries];
}
