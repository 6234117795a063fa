/** Writes at a resolver: it takes none, and says where they are taken. */
import { WaymarkError } from "../../lib/errors.ts";
import type { Handler } from "../service.ts";

/** Most urls that a refusal names. */
const MAX_URLS = 4;

/** `urls`: where nodes are, the best first; it never rejects. */
export function readOnlyHandlers(urls: () => Promise<readonly string[]>): Readonly<Record<string, Handler>> {
  const refusal = async () => readOnly((await urls()).slice(0, MAX_URLS));
  const refuse: Handler = {
    kind: "unary",
    handle: async () => {
      throw await refusal();
    },
  };
  const refuseAll: Handler = {
    kind: "bidi_streaming",
    open: (answers) => {
      void refusal().then((error) => answers.fail(error));
      return { message: () => {}, halfClosed: () => {}, leave: () => {}, close: () => {} };
    },
  };
  return { register: refuse, renew: refuse, keepAlive: refuseAll, unregister: refuse, setMaintenance: refuse };
}

function readOnly(urls: readonly string[]): WaymarkError {
  const where = urls.length === 0 ? "" : `, for example ${urls.join(" or ")}`;
  return new WaymarkError("read_only", `this server is a resolver, which takes no writes; call a node${where}`, {
    metadata: { urls: urls.join(" ") },
  });
}
