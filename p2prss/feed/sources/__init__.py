"""Sources that are not feeds: folders of media, folders with a site, lists of feeds, downloads of others."""
