/** Checks requests by the rules of the contract, before their handlers see them. `scripts/gen-codec.ts` writes the checks from the protos. */
import type { DescMessage, Message } from "@bufbuild/protobuf";
import { REQUEST_CHECKS } from "../../gen/waymark/request_rules.ts";
import { PROTOCOL_BOUNDS } from "../catalog/entry/names.ts";
import { Problems } from "../catalog/entry/problems.ts";

/**
 * The check of requests of this type. It throws `invalid_argument` with all faults. A request may ask for names as long as any node may
 * store, even if this node allows its own clients less. HOT: once a request; protovalidate takes 50 times as long.
 */
export function requestCheckOf({ typeName }: Pick<DescMessage, "typeName">): (request: Message) => void {
  const check = REQUEST_CHECKS.get(typeName);
  if (check === undefined) return () => {};
  const problems = new Problems(PROTOCOL_BOUNDS);
  return (request) => {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the check is that of this type
    check(request as never, problems);
    problems.throwIfAny();
  };
}
