/** Where each thread of this room begins: has Node keep what it compiles, then loads the module that its starter names. */
import { flushCompileCache } from "node:module";
import { workerData } from "node:worker_threads";
import { keepCompiled } from "../lib/compile-cache.io.ts";

keepCompiled();
await import(String(workerData));
// Now, as kill -9 does not let it when the thread ends.
flushCompileCache();
