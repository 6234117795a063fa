/** A service of which no method is called. */
import type { DescMethod, DescService } from "@bufbuild/protobuf";
import type { Handler, Service } from "../../src/services/service.ts";

const never = (): never => {
  throw new Error("a stub was called");
};

function stubHandler({ methodKind }: DescMethod): Handler {
  return methodKind === "unary" ? { kind: methodKind, handle: never } : { kind: methodKind, open: never };
}

/** Has a handler for every method; `own` are those that are more than stubs. */
export function stubService(desc: DescService, own: Service["handlers"] = {}): Service {
  return { desc, handlers: { ...Object.fromEntries(desc.methods.map((method) => [method.localName, stubHandler(method)])), ...own } };
}
