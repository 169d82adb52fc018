"""What tests of a page in a browser share."""

from tests.service.api.chromium import browser as browser
from tests.service.api.chromium import look as look
