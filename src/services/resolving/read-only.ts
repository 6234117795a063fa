/** Calls that a resolver does not answer: writes, and what only a node keeps. The refusal says where they are answered. */
import { WaymarkError } from "../../lib/errors.ts";
import type { Handler, Service } from "../service.ts";

/** Most urls that a refusal names. */
const MAX_URLS = 4;

export interface NodeCalls {
  readonly discovery: Readonly<Record<"register" | "renew" | "keepAlive" | "unregister" | "setMaintenance", Handler>>;
  readonly dns: Readonly<Record<"registerName" | "unregisterName", Handler>>;
  readonly policy: Service["handlers"];
}

/** `urls`: where nodes are, the best first; it never rejects. */
export function nodeCalls(urls: () => Promise<readonly string[]>): NodeCalls {
  const refusal = async (why: string) => readOnly(why, (await urls()).slice(0, MAX_URLS));
  const refuseFor = (why: string): Handler => ({
    kind: "unary",
    handle: async () => {
      throw await refusal(why);
    },
  });
  const refuse = refuseFor(NO_WRITES);
  const refuseAll: Handler = {
    kind: "bidi_streaming",
    open: (answers) => {
      void refusal(NO_WRITES).then((error) => answers.fail(error));
      return { message: () => {}, halfClosed: () => {}, leave: () => {}, close: () => {} };
    },
  };
  return {
    discovery: { register: refuse, renew: refuse, keepAlive: refuseAll, unregister: refuse, setMaintenance: refuse },
    dns: { registerName: refuse, unregisterName: refuse },
    policy: {
      applyPolicy: refuse,
      rollbackPolicy: refuse,
      // It has the versions that decide now, and does not know all clusters that a set may name.
      policyHistory: refuseFor("keeps no earlier versions of the policy"),
      validatePolicy: refuseFor("checks no policy that is not in force"),
    },
  };
}

const NO_WRITES = "takes no writes";

function readOnly(why: string, urls: readonly string[]): WaymarkError {
  const where = urls.length === 0 ? "" : `, for example ${urls.join(" or ")}`;
  return new WaymarkError("read_only", `this server is a resolver, which ${why}; call a node${where}`, {
    metadata: { urls: urls.join(" ") },
  });
}
