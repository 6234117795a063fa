/** Lets example programs import `waymark`, for which it is the client of these sources. The value of `node --import`. */
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { ROOT } from "../../scripts/run.ts";

const CLIENT = JSON.stringify(pathToFileURL(join(ROOT, "src/client/index.ts")).href);
const CODE = `import { registerHooks } from "node:module";
registerHooks({ resolve: (name, context, next) => next(name === "waymark" ? ${CLIENT} : name, context) });`;

export const EXAMPLE_HOOK = `data:text/javascript,${encodeURIComponent(CODE)}`;
