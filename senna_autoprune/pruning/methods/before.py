"""Where the allocation of methods that prune before the decoder used to be; plug-ins made before import it from here."""

from senna_autoprune.pruning.parts.before import keep_before_decoder as keep_before_decoder
