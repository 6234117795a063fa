/** What a service's GET route answers, without HTTP around it. */
import type { JsonValue } from "@bufbuild/protobuf";
import type { Time } from "../../src/lib/machine.ts";
import { anonymousCaller, type Caller } from "../../src/policy/identity/caller.ts";
import type { RouteParameters, ServiceDefinition } from "../../src/services/service.ts";

export interface RouteAsked {
  readonly path: string;
  readonly parameters?: RouteParameters;
  readonly time?: Time;
  readonly caller?: Caller;
}

/** The page, or the pieces joined; and what of it is steady. */
export function askRoute(
  service: ServiceDefinition,
  asked: RouteAsked,
): { readonly page: JsonValue; readonly steady: JsonValue | undefined } {
  const { path, parameters = {}, time = { monoMs: 0, wallMs: 0 }, caller = anonymousCaller("local", "127.0.0.1") } = asked;
  const route = service.routes?.find((each) => each.path === path);
  if (route?.answer === undefined) throw new Error(`no route ${path}`);
  const answer = route.answer(parameters, { caller, time, requestId: "r" });
  if (answer instanceof Promise) throw new Error(`${path} is answered later`);
  if (answer.kind === "pieces") return { page: JSON.parse([...answer.pieces].join("")) as JsonValue, steady: undefined };
  return answer.kind === "marked" ? { page: answer.page(), steady: answer.mark } : { page: answer.page, steady: answer.steady };
}
