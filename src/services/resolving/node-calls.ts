/** Calls that a resolver leaves to nodes: it passes them on to its upstream, as bytes, or refuses them and names nodes, as the option of each rpc says. */
import { type DescMethod, type DescMethodUnary, type DescService, fromBinary, type Message } from "@bufbuild/protobuf";
import { WaymarkError } from "../../lib/errors.ts";
import { costOf, isPassedOn, isRefusedByResolvers, rpcName } from "../contract.ts";
import { bytesOf, keeping } from "../forwarding/call-forwarder.ts";
import { LateSource } from "../late-source.ts";
import type { Handler, Service } from "../service.ts";
import type { ResolverPorts } from "./ports.ts";

/** Most urls that a refusal names. */
const MAX_URLS = 4;

/** Refusals of reads. A resolver has the versions that decide now, and does not know all clusters that a set may name. */
const WHY: Readonly<Record<string, string>> = {
  "waymark.policy.v1.PolicyService/PolicyHistory": "keeps no earlier versions of the policy",
  "waymark.policy.v1.PolicyService/ValidatePolicy": "checks no policy that is not in force",
};

export interface NodeCallsParts {
  /** Urls of nodes, the best first. It never rejects. */
  readonly urls: () => Promise<readonly string[]>;
  readonly ports: Pick<ResolverPorts, "callBytes">;
}

/** The handlers of a service for calls that a resolver passes on or refuses. */
export function nodeCalls({ methods }: DescService, parts: NodeCallsParts): Service["handlers"] {
  const handlers: Record<string, Handler> = {};
  for (const method of methods) {
    if (isRefusedByResolvers(method)) handlers[method.localName] = refusing(method, parts);
    if (isPassedOn(method)) handlers[method.localName] = passingOn(method, parts);
  }
  return handlers;
}

function passingOn(method: DescMethodUnary, { ports }: NodeCallsParts): Handler {
  return {
    kind: "unary",
    read: (bytes) => keeping(fromBinary(method.input, bytes), bytes),
    handle: async (request: Message, { deadlineMonoMs, time }) => {
      const withinMs = deadlineMonoMs === undefined ? undefined : deadlineMonoMs - time.monoMs;
      return (await ports.callBytes(method, bytesOf(method.input, request), withinMs)).bytes;
    },
  };
}

function refusing(method: DescMethod, { urls }: NodeCallsParts): Handler {
  const why = WHY[rpcName(method)] ?? (costOf(method) === "read" ? `does not answer ${method.name}` : "takes no writes");
  const refuse = async () => {
    throw readOnly(why, (await urls()).slice(0, MAX_URLS));
  };
  switch (method.methodKind) {
    case "unary":
      return { kind: "unary", handle: refuse };
    case "server_streaming":
      return { kind: "server_streaming", open: () => new LateSource(refuse()) };
    case "client_streaming":
    case "bidi_streaming":
      return {
        kind: method.methodKind,
        open: (answers) => {
          refuse().catch((error: unknown) => answers.fail(error));
          return { message: () => {}, halfClosed: () => {}, leave: () => {}, close: () => {} };
        },
      };
  }
}

function readOnly(why: string, urls: readonly string[]): WaymarkError {
  const where = urls.length === 0 ? "" : `, for example ${urls.join(" or ")}`;
  return new WaymarkError("read_only", `this server is a resolver, which ${why}; call a node${where}`, {
    metadata: { urls: urls.join(" ") },
  });
}
