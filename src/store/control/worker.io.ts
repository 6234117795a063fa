/** Runs in the control store's thread and owns its file. A slow fsync blocks this thread, but does not block client streams. */
import { serving } from "../thread.io.ts";
import { ControlFile, type ControlFileOptions } from "./file.io.ts";

export const serve = serving((options: ControlFileOptions) => new ControlFile(options));
